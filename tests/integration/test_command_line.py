"""The binary as a user meets it: help, mistakes, pipes, machine-readable output."""
import json, os, pty, subprocess, unittest

from support import BINARY, DatasetTest, run, tree, unpack


class CommandLine(DatasetTest):
    def test_help_of_every_command(self):
        for command in ([], ["sanitize"], ["inspect"], ["validate"]):
            result = run(*command, "--help", check=0)
            self.assertIn("collect-workloads", run("--help", check=0).stdout)
            self.assertEqual(result.stderr, "")
        self.assertRegex(run("--version", check=0).stdout, r"^collect-workloads \d+\.\d+\.\d+\n$")

    def test_wrong_usage(self):
        for arguments in ([], ["sanitize"], ["sanitize", "--dumps", "x"], ["nonsense"], ["sanitize", "--no-such-flag"],
                          ["sanitize", "--dumps", "x", "--trace-dir", "y", "--select", "some"], ["validate", "--trace-dir", "x", "--threads", "0"],
                          ["sanitize", "--dumps", "x", "--trace-dir", "y", "--random-below", "-5"]):
            result = run(*arguments, check=2)
            self.assertEqual(result.stdout, "", arguments)
            self.assertNotEqual(result.stderr, "", arguments)

    def test_errors_say_what_where_and_what_next(self):
        dumps = unpack("cpu-small", self.folder)
        cases = [
            (["--dumps", "/nowhere", "--trace-dir", self.trace], "/nowhere"),
            (["--dumps", dumps, "--trace-dir", self.folder], "definitions/"),
            (["--dumps", self.trace, "--trace-dir", self.trace], "FLASHINFER_DUMP_DIR"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--definition-name", "gqa_paged_decode_h32_kv8_d128_ps2"], "did you mean gqa_paged_decode_h32_kv8_d128_ps1"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--op-type", "attention"], "there are dsa_paged, gdn"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--keep-values", "nonsense"], "--keep-values nonsense"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--bindings", "/nowhere.yaml"], "/nowhere.yaml"),
        ]
        for arguments, words in cases:
            result = run("sanitize", *arguments, check=1)
            self.assertIn(words, result.stderr)
            self.assertNotIn("\033", result.stderr)
        self.assertFalse((self.trace / "workloads").exists())

    def test_a_full_pipe_reader_that_leaves(self):
        dumps = unpack("cpu-small", self.folder)
        inspect = subprocess.Popen([BINARY, "inspect", dumps, "--trace-dir", self.trace], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        inspect.stdout.read(10)
        inspect.stdout.close()
        self.assertNotIn(b"terminate", inspect.stderr.read())
        inspect.stderr.close()
        inspect.wait()

    def test_eighty_columns(self):
        dumps = unpack("cpu-small", self.folder)
        for output in (run("sanitize", "--dumps", dumps, "--trace-dir", self.trace, check=0).stdout, *(run(*c, "--help").stdout for c in ([], ["sanitize"], ["inspect"], ["validate"]))):
            for line in output.splitlines():
                # Paths and names of calls and definitions are not broken: they get copied.
                if " e.g. " not in line and "_h7168_" not in line and str(self.folder) not in line: self.assertLessEqual(len(line), 80, line)

    def test_colour_only_on_a_terminal(self):
        def on_terminal(**environment):
            main, other = pty.openpty()
            subprocess.run([BINARY, "validate", "--trace-dir", "/nowhere"], stderr=other, stdout=subprocess.DEVNULL,
                           env={**os.environ, "TERM": "xterm", **environment})
            os.close(other)
            return os.read(main, 4096)
        self.assertIn(b"\033[1;31m", on_terminal(NO_COLOR=""))
        self.assertNotIn(b"\033", on_terminal(NO_COLOR="1"))
        self.assertNotIn(b"\033", on_terminal(NO_COLOR="", TERM="dumb"))

    def test_definitions_that_cannot_be_served_say_why(self):
        dumps = unpack("cpu-small", self.folder)
        result = run("sanitize", "--dumps", dumps, "--trace-dir", self.trace, "--definition-name", "gemm_n4096_k4096", check=3)
        self.assertIn("FlashInfer", result.stdout)
        self.assertIn("linear", result.stdout)
        self.assertIn("dsa_topk_indexer", run("inspect", dumps, "--trace-dir", self.trace, check=0).stdout)

    def test_only_what_was_asked_for_is_written(self):
        dumps = unpack("cpu-small", self.folder)
        collection = self.sanitize(dumps, "--definition-name", "rmsnorm_h4096", "--op-type", "mla_paged")
        served = {name for name, definition in collection["definitions"].items() if definition["calls"] > 0}
        self.assertEqual(served, {"rmsnorm_h4096", "mla_paged_decode_h16_ckv512_kpe64_ps1", "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"})

    def test_inspect(self):
        dumps = unpack("cpu-small", self.folder)
        text = run("inspect", dumps, "--trace-dir", self.trace, check=0).stdout
        self.assertIn("12 calls on 5 wrappers, 11 give workloads, 1 do not", " ".join(text.split()))
        self.assertIn("expected 2, seen 4", text)
        shown = json.loads(run("inspect", dumps, "--trace-dir", self.trace, "--json", check=0).stdout)
        self.assertEqual(shown["functions"]["BatchDecodeWithPagedKVCacheWrapper.run"]["fits"]["gqa_paged_decode_h32_kv8_d128_ps64"]["calls"], 3)
        call = next(p for p in dumps.iterdir() if p.name.endswith("MLAPagedAttentionWrapper.plan_call0002"))
        self.assertIn("causal                   True", run("inspect", call, check=0).stdout)
        self.assertIn("int32", run("inspect", call / "inputs.safetensors", check=0).stdout)
        self.assertIn("sm_scale", run("inspect", call / "metadata.jsonl", check=0).stdout)

    def test_selection_and_pools(self):
        dumps = unpack("cpu-small", self.folder)
        collection = self.sanitize(dumps, "--num-samples", "2", "--definition-name", "gqa_paged_decode_h32_kv8_d128_ps1")
        kept = collection["definitions"]["gqa_paged_decode_h32_kv8_d128_ps1"]
        self.assertEqual((len(kept["workloads"]), kept["distinct"], kept["calls"]), (2, 7, 8))
        for size in ("pool", "compact", "used"):
            trace = self.new_trace(size)
            self.sanitize(dumps, "--num-pages", size, trace=trace)
            run("validate", "--trace-dir", trace, check=0)

    def test_a_dry_run(self):
        before = tree(self.trace)
        self.assertIn("Nothing was written", run("sanitize", "--dumps", unpack("cpu-small", self.folder), "--trace-dir", self.trace, "--dry-run", check=0).stdout)
        self.assertEqual(tree(self.trace), before)

    def test_unreadable_folders(self):
        if os.geteuid() == 0: self.skipTest("root reads everything")
        dumps = unpack("cpu-small", self.folder)
        locked = next(p for p in dumps.iterdir() if "rmsnorm_call0001" in p.name)
        locked.chmod(0)
        self.addCleanup(locked.chmod, 0o755)
        defects = {d["name"] for d in self.sanitize(dumps)["defects"]}
        self.assertIn("unreadable", defects)


if __name__ == "__main__": unittest.main()
