"""The binary as a user meets it: help, mistakes, pipes, machine-readable output."""
import json, os, pathlib, pty, re, shlex, subprocess, unittest

from support import BINARY, DatasetTest, run, tree, unpack


class CommandLine(DatasetTest):
    def test_help_of_every_command(self):
        for command in ([], ["sanitize"], ["inspect"], ["validate"]):
            result = run(*command, "--help", check=0)
            self.assertIn("collect-workloads", run("--help", check=0).stdout)
            self.assertEqual(result.stderr, "")
        self.assertRegex(run("--version", check=0).stdout, r"^collect-workloads \d+\.\d+\.\d+\n$")

    def test_output_that_does_not_arrive_is_an_error(self):
        run("sanitize", "--dumps", unpack("cpu-small", self.folder), "--trace-dir", self.trace, check=0)
        for command in (["validate"], ["report", "--format", "md"], ["report", "--json"], ["inspect", self.folder / "cpu-small"]):
            with open("/dev/full", "w") as full:
                result = subprocess.run([BINARY, *map(str, command), "--trace-dir", self.trace], stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual(result.returncode, 1, command)
            self.assertIn("cannot write to stdout: No space left on device", result.stderr)

    def test_paths_that_are_not_there_are_named_whatever_the_others_are(self):
        recording = self.folder / "recording"
        recording.mkdir()
        (recording / "host-1-1.cbor").write_bytes(b"")
        self.assertIn("nope: no such file", run("sanitize", "--dumps", self.folder / "nope", recording, "--trace-dir", self.trace, check=1).stderr)

    def test_a_plan_without_prompts_and_as_json(self):
        launch = ["collect", "--trace-dir", self.trace, "--definition-name", "gqa_paged_decode_h32_kv8_d128_ps1", "--launch-command", "true --port {port}", "--dry-run"]
        result = run(*launch, check=0)
        self.assertIn("Run 1 of 1", result.stdout)
        self.assertIn("would not start yet: no prompts", result.stdout)
        run(*launch, "--prompts", "/nonexistent.json", check=1)
        plan = json.loads(run(*launch, "--random-prompts", "--json", check=0).stdout)
        self.assertEqual((plan["runs"][0]["definitions"], plan["runs"][0]["command"][0]), (["gqa_paged_decode_h32_kv8_d128_ps1"], "true"))

    def test_manual_pages_and_completions(self):
        commands = re.findall(r"^  ([a-z]+) ", run("--help", check=0).stdout.split("Subcommands:")[1], re.MULTILINE)
        self.assertIn("collect", commands)
        for command in commands:
            page = run("man", command, check=0).stdout
            self.assertIn(f'.TH "collect-workloads-{command}" 1', page)
            for option in re.findall(r"^  (?:-.,)?(--[a-z-]+)", run(command, "--help", check=0).stdout, re.MULTILINE):
                self.assertIn("\\fB" + option.replace("-", "\\-") + "\\fR", page)
        self.assertIn("there is no command nope", run("man", "nope", check=1).stderr)
        self.assertIn("'tcsh' is not one of bash, fish, zsh", run("completion", "tcsh", check=2).stderr)
        for shell in ("zsh", "fish"): self.assertIn("keep-values", run("completion", shell, check=0).stdout)

        script = self.folder / "completion.bash"
        script.write_text(run("completion", "bash", check=0).stdout)
        def completed(*words):
            line = f'source {script}; COMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _collect_workloads; printf "%s\\n" "${{COMPREPLY[@]}}"'
            return set(subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, cwd=self.folder).stdout.split())
        self.assertEqual(completed("collect-workloads", "re"), {"record", "report"})
        self.assertEqual(completed("collect-workloads", "sanitize", "--select", ""), {"all", "diverse"})
        self.assertEqual(completed("collect-workloads", "sanitize", "--trace-dir", "tr"), {"trace"})
        self.assertEqual(completed("collect-workloads", "sanitize", "--num-"), {"--num-samples", "--num-pages"})
        self.assertIn("python3", completed("collect-workloads", "record", "-o", "x", "--", "python"))

    def test_every_command_of_the_skill_parses(self):
        text = run("skill", check=0).stdout
        self.assertEqual(text, (pathlib.Path(__file__).parents[2] / "skills/collect-workloads/SKILL.md").read_text())
        commands = [line.strip() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.replace("\\\n", " ").splitlines()]
        ours = [shlex.split(command)[1:] for command in commands if command.startswith("collect-workloads ")]
        self.assertGreater(len(ours), 12)
        work = self.folder / "interrupted"
        work.mkdir()
        (work / "collect.json").write_text(json.dumps({"words": ["collect", "--trace-dir", "x"], "directory": str(work)}))
        for words in ours:
            if words == ["collect", "--resume"]: words = [*words, work]
            run(*words, check=0, env={**os.environ, "COLLECT_WORKLOADS_TEST_PARSE_ONLY": "1"})
        run("collect", "--no-such-option", check=2, env={**os.environ, "COLLECT_WORKLOADS_TEST_PARSE_ONLY": "1"})

    def test_what_is_left_on_the_disk_is_listed_and_removed(self):
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "XDG_CACHE_HOME": str(self.folder / "cache")}
        run("collect", "--trace-dir", self.trace, "--definition-name", "gqa_paged_decode_h32_kv8_d128_ps1", "--engine", "simulated", "--num-prompts", "3",
            check=0, env=environment)
        run("record", "-o", self.folder / "recording", "--", "true", env=environment)
        (work,) = (self.folder / "state/collect-workloads/runs").iterdir()
        self.assertEqual({str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}, {"collect.json", "run1/engine.log"}, "nothing but logs")
        unfinished = work.parent / "19990101T000000Z-1"
        (unfinished / "run1/found").mkdir(parents=True)
        (unfinished / "run1/found/state.json").write_text(json.dumps({"format": 2, "more": {"requests": 1, "collected": False}}))

        def clean(*options): return {(i["what"], i["removed"], i["kept_because"]) for i in json.loads(run("clean", "--json", *options, check=0, env=environment).stdout)["items"]}
        before = tree(self.folder)
        recent = ("recorder", False, "less than a day old")
        self.assertEqual(clean("--dry-run"), {("logs of a run", False, ""), recent, ("unfinished run", False, "collect --resume can continue it")})
        self.assertEqual(tree(self.folder), before)
        # What a process uses, or may load, stays.
        recorder = next((self.folder / "cache/collect-workloads").glob("recorder-*"))
        user = subprocess.Popen(["sleep", "60"], env={**os.environ, "PYTHONPATH": str(recorder)})
        self.addCleanup(user.wait)
        self.addCleanup(user.kill)
        self.assertIn(("recorder", False, "in use by a process"), clean())
        self.assertFalse(work.exists())
        self.assertTrue(recorder.exists() and unfinished.exists())
        user.kill()
        user.wait()
        self.assertEqual(clean(), {recent, ("unfinished run", False, "collect --resume can continue it")})
        self.assertEqual(clean("--all"), {("recorder", True, ""), ("unfinished run", True, "")})
        self.assertIn("Nothing in", run("clean", check=0, env=environment).stdout)

    def test_one_folder_for_state_and_cache(self):
        """As where there is no home: only recorders are taken for recorders. And a home that cannot be written into is none."""
        both = str(self.folder / "both")
        environment = {**os.environ, "XDG_STATE_HOME": both, "XDG_CACHE_HOME": both}
        run("record", "-o", self.folder / "recording", "--", "true", env=environment)
        unfinished = self.folder / "both/collect-workloads/runs/19990101T000000Z-1/run1/found"
        unfinished.mkdir(parents=True)
        (unfinished / "state.json").write_text(json.dumps({"format": 2, "more": {"requests": 1, "collected": False}}))
        (self.folder / "both/collect-workloads/engines").mkdir(exist_ok=True)
        shown = json.loads(run("clean", "--json", check=0, env=environment).stdout)["items"]
        self.assertEqual([(item["what"], item["removed"]) for item in shown], [("unfinished run", False), ("recorder", False)])
        self.assertTrue((unfinished / "state.json").exists() and (self.folder / "both/collect-workloads/engines").exists())

        (self.folder / "file").write_text("")
        for home in (self.folder / "file", "/proc"):
            environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")} | {"HOME": str(home), "TMPDIR": str(self.folder)}
            run("record", "-o", self.folder / "other", "--", "true", check=0, env=environment)
            self.assertEqual(json.loads(run("clean", "--json", check=0, env=environment).stdout)["state"], str(self.folder / f"collect-workloads-{os.geteuid()}"))
        said = run("clean", check=1, env={**environment, "XDG_STATE_HOME": "/proc/x"}).stderr
        self.assertIn("XDG_STATE_HOME", said)

    def test_wrong_usage(self):
        for arguments in ([], ["sanitize"], ["sanitize", "--dumps", "x"], ["nonsense"], ["sanitize", "--no-such-flag"],
                          ["sanitize", "--dumps", "x", "--trace-dir", "y", "--select", "some"], ["validate", "--trace-dir", "x", "--threads", "0"],
                          ["sanitize", "--dumps", "x", "--trace-dir", "y", "--random-below", "-5"]):
            result = run(*arguments, check=2)
            self.assertEqual(result.stdout, "", arguments)
            self.assertNotEqual(result.stderr, "", arguments)

    def test_mistyped_options_are_named(self):
        for words, said in ((["collect", "--trace-dirs", "x"], "collect has no option --trace-dirs; did you mean --trace-dir?"),
                            (["sanitize", "--dump", "x"], "sanitize has no option --dump; did you mean --dumps?"),
                            (["--verison"], "collect has no option --verison"), (["validate", "--nmu=3"], "validate has no option --nmu")):
            self.assertIn(said, " ".join(run(*words, check=2).stderr.split()))

    def test_errors_say_what_where_and_what_next(self):
        dumps = unpack("cpu-small", self.folder)
        cases = [
            (["--dumps", "/nowhere", "--trace-dir", self.trace], "/nowhere"),
            (["--dumps", dumps, "--trace-dir", self.folder], "definitions/"),
            (["--dumps", self.trace, "--trace-dir", self.trace], "FLASHINFER_DUMP_DIR"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--definition-name", "gqa_paged_decode_h32_kv8_d128_ps2"], "did you mean gqa_paged_decode_h32_kv8_d128_ps1"),
            (["--dumps", dumps, "--trace-dir", self.trace, "--op-type", "attention"], "the dataset has dsa_paged, gdn"),
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
        def served(*options):
            collection = self.sanitize(dumps, "--dry-run", *options)
            return {name for name, definition in collection["definitions"].items() if definition["calls"] > 0}

        mla = {"mla_paged_decode_h16_ckv512_kpe64_ps1", "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"}
        self.assertEqual(served("--op-type", "mla_paged"), mla)
        self.assertEqual(served("--op-type", "mla_paged", "rmsnorm"), mla | {"rmsnorm_h4096", "fused_add_rmsnorm_h4096"})
        # Together they mean both, in every command.
        decode = "mla_paged_decode_h16_ckv512_kpe64_ps1"
        both = ["--definition-name", "rmsnorm_h4096", decode, "--op-type", "mla_paged"]
        self.assertEqual(served(*both), {decode})
        self.sanitize(dumps, *both)
        report = json.loads(run("report", "--trace-dir", self.trace, "--json", *both, check=0).stdout)
        self.assertEqual([d["name"] for d in report["definitions"]], [decode])
        neither = ["--trace-dir", self.trace, "--definition-name", "rmsnorm_h4096", "--op-type", "mla_paged"]
        for command in (["sanitize", "--input", dumps], ["report", "--json"], ["submit", "--dry-run"], ["env"]):
            self.assertIn("no definition is called rmsnorm_h4096 and also has op type mla_paged", run(*command, *neither, check=1).stderr)

    def test_older_names_of_options(self):
        dumps = unpack("cpu-small", self.folder)
        for option in ("--input", "--dumps"):
            run("sanitize", option, dumps, "--trace-dir", self.trace, "--dry-run", check=0)
        for option in ("-o", "--out", "--output"):
            run("record", option, self.folder / option.strip("-"), "--", "true", check=0)

    def test_inspect(self):
        dumps = unpack("cpu-small", self.folder)
        text = run("inspect", dumps, "--trace-dir", self.trace, check=0).stdout
        self.assertIn("12 calls on 5 wrappers, 11 gave workloads, 1 gave none", " ".join(text.split()))
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
