"""The recorder and level 10 in one process, under FlashInfer's own decorator and signatures and a real PyTorch: the same
workloads come out, call for call, but for scalars that only the recorder sees. Needs a Python with both (no GPU)."""
import collections, importlib.util, json, os, pathlib, subprocess, sys, unittest

from support import DatasetTest, records, run, tensor, workloads

HERE = pathlib.Path(__file__).parent


@unittest.skipUnless(importlib.util.find_spec("flashinfer"), "flashinfer-python is not installed here")
class FlashInferTest(DatasetTest):
    def setUp(self):
        super().setUp()
        self.recording, self.dumps = self.folder / "recording", self.folder / "dumps"
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}

    def record(self, *command, options=(), **variables):
        return run("record", "-o", self.recording, *options, "--", sys.executable, "-W", "ignore", *command, check=0,
                   env={**self.environment, **variables}, timeout=300)

    def both(self, seed):
        level10 = {"FLASHINFER_LOGLEVEL": "10", "FLASHINFER_LOGDEST": "/dev/null", "FLASHINFER_DUMP_DIR": str(self.dumps),
                   "FLASHINFER_DUMP_SAFETENSORS": "1", "FLASHINFER_DUMP_MAX_COUNT": "100000", "FLASHINFER_DUMP_EXCLUDE": "*.__init__"}
        self.record(HERE / "flashinfer_scenario.py", seed, options=["--keep-values"], **level10)

    def test_the_same_workloads_as_level_10_in_the_same_process(self):
        for seed in (1, 2):
            self.recording, self.dumps = self.folder / f"recording{seed}", self.folder / f"dumps{seed}"
            self.both(seed)
            found = {}
            for name, capture in (("recorder", self.recording), ("level10", self.dumps)):
                trace = self.new_trace(f"{name}{seed}")
                section = self.sanitize(capture, "--select", "all", trace=trace)
                run("validate", "--trace-dir", trace, check=0)
                found[name] = self.content(trace, section)
            self.assertEqual(found["recorder"], found["level10"])
            self.assertGreater(len(found["level10"]), 15)

    def content(self, trace, section):
        """(definition, axes, stored tensors, scalars but sm_scale) -> how many calls."""
        seen = {w["uuid"]: w["seen"] for d in section["definitions"].values() for w in d["workloads"]}
        result = {}
        for definition, items in workloads(trace).items():
            for item in items:
                inputs = []
                for name, spec in sorted(item["inputs"].items()):
                    if spec["type"] == "safetensors" and name != "top_p": inputs.append((name, tuple(tensor(trace, spec))))
                    elif name == "sm_scale": self.assertAlmostEqual(spec["value"], {"ps64": 0.1, "ckv512": 0.0722}.get(
                        next((part for part in ("ps64", "ckv512") if part in definition), ""), 128 ** -0.5), 12)
                    else: inputs.append((name, spec["type"], spec.get("value")))
                key = (definition, tuple(sorted(item["axes"].items())), tuple(inputs))
                result[key] = result.get(key, 0) + seen[item["uuid"]]
        return result

    def test_what_only_the_recorder_sees_is_observed(self):
        self.both(3)
        derived = {}
        for name, capture in (("recorder", self.recording), ("level10", self.dumps)):
            section = self.sanitize(capture, "--select", "all", trace=self.new_trace(name))
            derived[name] = {definition for definition, d in section["definitions"].items() if d.get("derived_calls")}
        self.assertEqual(derived["recorder"], set())
        self.assertIn("gqa_paged_decode_h32_kv8_d128_ps1", derived["level10"])

    def test_calls_that_recur_are_told_as_if_each_were_described(self):
        for seed in range(1, 5):
            told = {}
            for way in ("recognized", "described"):
                self.recording = self.folder / f"{way}{seed}"
                # Some of what a tensor consists of is padding, which has whatever was there before.
                result = self.record(HERE / "recurring_scenario.py", seed, way, MALLOC_PERTURB_=str(30 * seed))
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertNotIn("recorder: off", result.stderr)
                told[way] = self.calls()
            self.assertEqual(told["recognized"], told["described"])
            self.assertGreater(sum(told["described"].values()), 2000)
            self.assertGreater(len(told["described"]), 100)

    def test_calls_that_are_too_many_or_too_odd_to_be_recognized(self):
        """As many as can be are; what never can be is hardly tried; and what is recognized keeps nothing alive."""
        code = ("import gc, json, weakref, flashinfer_api, torch, collect_workloads_recorder as recorder\n"
                "recorded, counts = flashinfer_api.api_logging.flashinfer_api, []\n"
                "@recorded\n"
                "def many(x): pass\n"
                "@recorded\n"
                "def odd(x): pass\n"
                "sample = flashinfer_api.load('sampling.py', 'top_k_top_p_sampling_from_probs')\n"
                "def count(work):\n"
                "    before = recorder._native.recognized(); work(); counts.append(recorder._native.recognized() - before)\n"
                "shapes = [torch.ones(n, 2) for n in range(1, 13)]\n"
                "count(lambda: [many(x) for _ in range(100) for x in shapes])\n"
                "count(lambda: [odd([[x]]) for _ in range(100) for x in shapes])\n"
                "count(lambda: [odd(shapes[0]) for _ in range(1000)])\n"
                "count(lambda: [sample(shapes[0], 5, 0.9) for _ in range(1000)])\n"
                "class Passing: pass\n"
                "tensor = torch.ones(3)\n"
                "gone = [weakref.ref(tensor), weakref.ref(Passing)]\n"
                "for _ in range(5): odd(tensor), odd(Passing())\n"
                "del tensor, Passing; gc.collect()\n"
                "print(json.dumps([counts, [x() is None for x in gone], recorder._read_tensors.recognizes]))")
        counts, gone, recognizes = json.loads(self.record("-c", code, PYTHONPATH=str(HERE)).stdout)
        if not recognizes: self.skipTest("calls are not recognized with this PyTorch")
        many, odd, after, without_tensors = counts
        self.assertGreater(many, 600)  # of 1,200
        self.assertEqual(odd, 0)
        self.assertGreater(after, 800)
        self.assertGreater(without_tensors, 990)
        self.assertEqual(gone, [True, True])

    def calls(self):
        """Calls by what is told of each: the function, its arguments, its values, and under which of the wrapper's plans."""
        sites, forms, wrappers, counts = {}, {}, {}, collections.Counter()
        for file in self.recording.glob("*.cbor"):
            for record in records(file):
                if record["record"] == "site": sites[record["site"]] = record["function"]
                if record["record"] == "form": forms[record["form"]] = sites[record["site"]], repr(record["arguments"])
                for group in record.get("calls", ()) if record["record"] == "calls" else ():
                    wrapper = wrappers.setdefault(group["wrapper"], len(wrappers)) if "wrapper" in group else None
                    key = *forms[group["form"]], wrapper, group.get("plan"), group.get("nested"), repr(group.get("values"))
                    counts[key] += group["count"]
                    counts["raised", key[0]] += group.get("raised", 0)
                if record["record"] == "raised": counts["raised", sites[record["site"]]] += 1
        return counts

    def test_torch_compile_passes_through_the_hooks(self):
        code = ("import torch; from flashinfer_api import api_logging\n"
                "@api_logging.flashinfer_api\n"
                "def norm(input, weight): return input * 2\n"
                "f = torch.compile(lambda x, w: torch.nn.functional.linear(norm(x, w), w), backend='eager', fullgraph=True)\n"
                "x = torch.ones(2, 4); assert torch.equal(f(x, x), torch.nn.functional.linear(x * 2, x)); norm(x, x); print('compiled')")
        result = self.record("-c", code, PYTHONPATH=str(HERE))
        self.assertEqual(result.stdout, "compiled\n", result.stderr)
        self.assertEqual(json.loads(run("inspect", self.recording, "--json", check=0).stdout)["functions"]["norm"]["calls"], 1)

    def test_every_decorated_api_is_seen(self):
        """As many as the installed FlashInfer has decorators, by its own source; those that can be made without a GPU are called."""
        code = ("import flashinfer_api as f, inspect\n"
                "made = 0\n"
                "for name, pattern in (('rmsnorm', 'norm/*.py'), ('gemma_rmsnorm', 'norm/*.py'), ('silu_and_mul', 'activation.py'),\n"
                "                      ('apply_rope_pos_ids_inplace', 'rope.py'), ('min_p_sampling_from_probs', 'sampling.py')):\n"
                "    function = f.load(pattern, name)\n"
                "    count = len(inspect.signature(function).parameters)\n"
                "    function(*[None] * count) if all(p.kind != p.KEYWORD_ONLY for p in inspect.signature(function).parameters.values()) else function(None)\n"
                "    made += 1\n"
                "print(made)")
        self.record("-c", code, PYTHONPATH=str(HERE))
        seen = json.loads(run("inspect", self.recording, "--json", check=0).stdout)["functions"]
        self.assertEqual(set(seen), {"rmsnorm", "gemma_rmsnorm", "silu_and_mul", "apply_rope_pos_ids_inplace", "min_p_sampling_from_probs"})


if __name__ == "__main__":
    unittest.main()
