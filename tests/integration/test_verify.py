"""verify: flashinfer-bench's own loader and each definition's reference, over every workload."""
import json, os, pathlib, signal, stat, subprocess, sys, time, unittest

from support import BINARY, DatasetTest, run, unpack

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import references

DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
NORM = "rmsnorm_h4096"


class VerifyTest(DatasetTest):
    def setUp(self):
        super().setUp()
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))

    def verify(self, *options, check=0, python=sys.executable):
        env = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "CUDA_VISIBLE_DEVICES": ""}
        return run("verify", "--trace-dir", self.trace, "--python", python, *options, check=check, env=env)

    def stored(self):
        return json.loads((self.trace / "verification.json").read_text())["definitions"]

    def set_reference(self, name, source):
        path = next((self.trace / "definitions").rglob(f"{name}.json"))
        path.write_text(json.dumps({**json.loads(path.read_text()), "reference": source}))

    def test_every_workload_runs(self):
        references.fill(self.trace)
        result = json.loads(self.verify("--json").stdout)
        self.assertTrue(result["passed"])
        self.assertEqual(result["definitions"], self.stored())
        self.assertGreaterEqual(len(self.stored()), 5)
        for definition in self.stored().values():
            self.assertEqual((definition["loaded"], definition["executed"], definition["reference"], definition["failures"]),
                             (definition["workloads"], definition["workloads"], "ran", []))
        self.assertIn("CPU", result["environment"]["device"])
        # The same, in words for people, and in the report.
        self.assertIn(DECODE, self.verify("--definition-name", DECODE).stdout)

    def test_without_references(self):
        self.verify()
        self.assertEqual({(d["executed"], d["reference"]) for d in self.stored().values()}, {(0, "absent")})

    def test_a_reference_that_was_not_run_or_does_not_work(self):
        self.set_reference(NORM, "import torch\ndef run(hidden_states, weight):\n    torch.ones(2).to(torch.float8_e4m3fn) + torch.ones(2).to(torch.float8_e4m3fn)\n")
        self.verify("--definition-name", NORM, "--no-reference")
        self.assertEqual(self.stored()[NORM]["reference"], "not_run")
        self.verify("--definition-name", NORM, check=1)
        self.assertEqual(len(self.stored()[NORM]["failures"]), self.stored()[NORM]["workloads"], "PyTorch raises NotImplementedError, too")

    def test_changed_tensors_are_unverified(self):
        self.verify("--definition-name", DECODE)
        shown = lambda: next(d for d in json.loads(run("report", "--trace-dir", self.trace, "--json", check=0).stdout)["definitions"] if d["name"] == DECODE)
        self.assertTrue(shown()["verification"]["passed"])
        blob = next((self.trace / "blob").rglob("*decode*.safetensors"))
        content = bytearray(blob.read_bytes()); content[-1] ^= 1; blob.write_bytes(content)
        self.assertNotIn("verification", shown())

    def test_an_index_out_of_range(self):
        references.fill(self.trace, [DECODE])
        lines = self.trace / f"workloads/gqa_paged/{DECODE}.jsonl"
        items = [json.loads(line) for line in lines.read_text().splitlines()]
        for item in items[:2]: item["workload"]["axes"]["num_pages"] = 1
        lines.write_text("".join(json.dumps(item) + "\n" for item in items))
        result = self.verify("--definition-name", DECODE, check=1)
        self.assertEqual(self.stored()[DECODE]["executed"], len(items) - 2)
        self.assertEqual(self.stored()[DECODE]["loaded"], len(items))
        self.assertEqual({f["uuid"] for f in self.stored()[DECODE]["failures"]}, {i["workload"]["uuid"] for i in items[:2]})
        self.assertIn("IndexError", result.stdout)
        self.assertIn("(reference, line ", result.stdout)

    def test_one_that_takes_the_process_down(self):
        first = json.loads((self.trace / f"workloads/rmsnorm/{NORM}.jsonl").read_text().splitlines()[0])["workload"]
        size = first["axes"]["batch_size"]
        self.set_reference(NORM, f"import os\ndef run(hidden_states, weight):\n    if len(hidden_states) == {size}: os.kill(os.getpid(), 11)\n")
        self.verify("--op-type", "rmsnorm", check=1)
        norm = self.stored()[NORM]
        self.assertEqual([(f["uuid"], f["stage"]) for f in norm["failures"]], [(first["uuid"], "execute")])
        self.assertIn("signal 11", norm["failures"][0]["message"])
        self.assertEqual(norm["executed"], norm["workloads"] - 1)

    def test_one_that_never_ends(self):
        self.set_reference(NORM, "import time\ndef run(hidden_states, weight):\n    time.sleep(1000)\n")
        self.verify("--definition-name", NORM, "--limit", "8", check=1)
        self.assertIn("no output for 8 s", self.stored()[NORM]["failures"][0]["message"])

    def test_what_is_missing(self):
        self.assertIn("pip install", self.verify(check=1, python="/usr/bin/python3").stderr)
        self.assertIn("cannot start", self.verify(check=1, python=self.folder / "none").stderr)
        self.assertIn("no definition is called", self.verify("--definition-name", "none", check=1).stderr)
        blob = next((self.trace / "blob").rglob("*decode*.safetensors"))
        blob.write_bytes(blob.read_bytes()[:-4])
        self.verify("--definition-name", DECODE, check=1)
        self.assertEqual([f["stage"] for f in self.stored()[DECODE]["failures"]], ["load"])
        (self.trace / f"definitions/gqa_paged/bad.json").write_text("{}")
        self.assertIn("cannot load the dataset", " ".join(self.verify(check=1).stderr.split()))

    def test_other_definitions_stay_as_they_were(self):
        self.verify("--definition-name", NORM)
        self.verify("--definition-name", DECODE)
        self.assertEqual(set(self.stored()), {NORM, DECODE})

    def test_interrupted_it_forgets_nothing(self):
        self.verify()
        before = self.stored()
        self.set_reference(NORM, "import time\ndef run(hidden_states, weight):\n    time.sleep(100)\n")
        env = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen([BINARY, "verify", "--trace-dir", self.trace, "--python", sys.executable], env=env, stderr=subprocess.PIPE, text=True)
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        self.assertIn("finished", process.communicate(timeout=60)[1])
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.stored(), before)

    def stand_in(self, body):
        """A Python whose `-m flashinfer` does `body`, a piece of shell."""
        path = self.folder / "engine-python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def test_what_replay_cannot_compare_is_counted_apart(self):
        """Dumps of valid calls whose replay FlashInfer calls a mismatch, whatever comes out."""
        import torch
        from safetensors.torch import save_file
        dumps = self.folder / "dumps"
        calls = {"nan": dict(outputs=torch.tensor([1.0, float("nan")])), "list": dict(result={"type": "list", "length": 1, "items": []}),
                 "dict": dict(result={"type": "dict", "length": 0, "items": []}), "enum": dict(inputs={"kwarg_mode": {"type": "enum", "name": "Mode.fast", "value": 1}}),
                 "keyword": dict(tensors=["kwarg_a__b"]), "object": dict(inputs={"arg_1": {"type": "Config", "repr": "Config()"}}),
                 "wrong": dict(outputs=torch.tensor([1.0])), "torn": None}
        lines = []
        for number, (name, call) in enumerate(calls.items()):
            folder = dumps / f"20261125_100000_00{number}_pid7_{name}_call0001"
            folder.mkdir(parents=True)
            (folder / "metadata.jsonl").write_text("{\n" if call is None else json.dumps({
                "function_name": name, "input_metadata": call.get("inputs", {}), "output_metadata": {"result": call.get("result")},
                "tensor_info": {"input_tensor_keys": call.get("tensors", [])}}) + "\n")
            if call and "outputs" in call:
                if number % 2: torch.save({"result": call["outputs"]}, folder / "outputs.pt")
                else: save_file({"result": call["outputs"]}, folder / "outputs.safetensors")
            lines.append(f"echo '[{number}] {name} ({folder.name}): ⚠️  Mismatch'")
        python = self.stand_in("\n".join(lines) + "\necho\necho 'Summary: 0 passed, 8 failed/mismatch'")
        result = self.verify("--dumps", dumps, "--engine-python", python, "--json", check=1)
        replay = json.loads(result.stdout)["replay"]
        self.assertEqual((replay["failed"], replay["undecided"]), (2, 6), replay)
        reasons = " | ".join(replay["reasons"])
        for said in ("holds NaN", "is a list", "is a dict", "enumeration", "keyword a__b", "Config"): self.assertIn(said, reasons)
        self.assertEqual(sorted(failure.split(" ")[0] for failure in replay["failures"]), ["torn", "wrong"])
        result = self.verify("--dumps", dumps, "--engine-python", python, check=1)
        self.assertIn("2 failed, 0 cannot be replayed (their constructor was not dumped) 6 undecided", " ".join(result.stdout.split()))

    def test_replay(self):
        python = self.stand_in('[ "$*" = "-m flashinfer replay --dir=dumps" ] || exit 9\n'
                               "echo 'Replaying session from dumps...'\n"
                               "echo '[1] rmsnorm (20261125_call0001): ✅ Passed'\n"
                               "echo '[2] Decode.run (20261125_call0001): ❌ Error: no object'\n"
                               "echo '[3] silu (20261125_call0001): ⚠️  Mismatch'\n"
                               "echo\necho 'Summary: 1 passed, 2 failed/mismatch'")
        result = self.verify("--dumps", "dumps", "--engine-python", python, check=1)
        self.assertIn("1 of 3 calls passed, 0 of them with outputs to compare 1 failed, 1 cannot", " ".join(result.stdout.split()))
        self.assertIn("silu", result.stdout)
        result = self.verify("--dumps", "dumps", "--engine-python", self.stand_in("echo '❌ Replay failed: no CUDA'"), check=1)
        self.assertIn("no CUDA", result.stderr)
        self.assertGreaterEqual(len(self.stored()), 5, "the workloads are verified all the same")
        self.assertIn("--engine-python", result.stderr)


if __name__ == "__main__":
    unittest.main()
