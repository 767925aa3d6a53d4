"""`doctor`: what it says of packages that are there only as source."""
import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

from support import BINARY

FLASHINFER = {
    "flashinfer/__init__.py": "raise SystemExit('imported')\n",
    "flashinfer/api_logging.py": "def flashinfer_api(function): return function\n",
    "flashinfer/decode.py": """
from .api_logging import flashinfer_api

class BatchDecodeWithPagedKVCacheWrapper:
    @flashinfer_api
    def __init__(self, float_workspace_buffer, kv_layout="NHD"): ...
    @flashinfer_api
    def plan(self, indptr, indices, last_page_len, num_qo_heads, num_kv_heads, head_dim, page_size, **kwargs): ...
    @flashinfer_api(trace=None)
    def run(self, q, paged_kv_cache): ...

def fast_decode_plan(self, indptr, indices): ...
""",
    "flashinfer/norm.py": "from .api_logging import flashinfer_api\n\n@flashinfer_api\ndef rmsnorm(input, weight, eps=1e-6): ...\n",
}
RUNNERS = "sglang/srt/model_executor/runner/"
SGLANG = {
    "sglang/__init__.py": "raise SystemExit('imported')\n",
    "sglang/srt/layers/attention/flashinfer_backend.py": "def fast_prefill_plan(self): ...\n",
    "sglang/srt/layers/attention/flashinfer_mla_backend.py": "def fast_mla_decode_plan(self): ...\n",
    "sglang/srt/layers/quantization/unquant.py": "import torch.nn.functional as F\n",
    "sglang/kernels/ops/attention/rope.py": "if True:\n    def apply_rope_with_cos_sin_cache_inplace(q, k): ...\n",
    RUNNERS + "base_runner.py": "class BaseRunner:\n    def warmup(self): ...\n    def _dummy_run(self): ...\n",
    RUNNERS + "decode_cuda_graph_runner.py":
        "def build_replay_fb_view(forward_batch, raw_bs): ...\nclass DecodeCudaGraphRunner:\n    def capture(self): ...\n",
    RUNNERS + "prefill_cuda_graph_runner.py":
        "class PrefillCudaGraphRunner:\n    def capture(self): ...\n    def _run_dummy_forward(self): ...\n",
    RUNNERS + "eager_runner.py": "class EagerRunner:\n    def _execute_idle(self): ...\n",
    RUNNERS + "flashinfer_autotune.py": "def run_flashinfer_autotune_forward(): ...\n",
}


class DoctorTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="doctor-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def install(self, name, version, files):
        for path, text in {**files, f"{name.replace('-', '_')}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n"}.items():
            path = os.path.join(self.folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)

    def doctor(self, *flags, status=0, path=None):
        result = subprocess.run([BINARY, "doctor", "--python", sys.executable, *flags], capture_output=True, text=True, cwd=self.folder,
                                env={**os.environ, "PYTHONPATH": path or self.folder}, timeout=120)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return json.loads(result.stdout) if "--json" in flags else result.stdout

    def test_nothing_is_installed(self):
        self.assertIn("FlashInfer is not installed", self.doctor(status=1, path="/nonexistent"))

    def test_an_installation_is_read_and_not_imported(self):
        self.install("flashinfer-python", "0.7.2.post1", FLASHINFER)
        said = self.doctor("--json")
        self.assertTrue(said["healthy"])
        self.assertEqual(said["packages"]["flashinfer-python"], {"version": "0.7.2.post1", "tried": True})
        self.assertIsNone(said["packages"]["sglang"]["version"])
        self.assertIsNone(said["bindings"]["gqa_paged_decode"])
        self.assertIsNone(said["bindings"]["rmsnorm"])
        self.assertEqual(said["bindings"]["fused_add_rmsnorm"], "there is no fused_add_rmsnorm")
        self.assertIn("2 of 2 rules apply", self.doctor())

    def test_functions_that_have_changed(self):
        files = dict(FLASHINFER)
        files["flashinfer/decode.py"] = files["flashinfer/decode.py"].replace("indptr, indices, last", "rows, columns, last").replace("**kwargs", "more=None")
        files["flashinfer/norm.py"] = files["flashinfer/norm.py"].replace("@flashinfer_api\n", "")
        self.install("flashinfer-python", "9.0", files)
        said = self.doctor("--json")
        self.assertFalse(said["packages"]["flashinfer-python"]["tried"])
        self.assertEqual(said["bindings"]["gqa_paged_decode"], "BatchDecodeWithPagedKVCacheWrapper.plan has no parameter indptr")
        self.assertEqual(said["bindings"]["rmsnorm"], "rmsnorm is not part of the API that is recorded")
        self.assertIn("not tried with this version", self.doctor())

    def test_without_decorators_nothing_is_seen(self):
        self.install("flashinfer-python", "0.7.2.post1", {**FLASHINFER, "flashinfer/api_logging.py": "def other(function): ...\n"})
        said = self.doctor(status=1)
        self.assertIn("flashinfer_api is not there; no call of FlashInfer's is seen", " ".join(said.split()))

    def test_a_rule_that_broke_is_found(self):
        self.install("flashinfer-python", "0.7.2.post1", FLASHINFER)
        self.install("sglang", "0.5.17", SGLANG)
        self.assertIn("SGLang 0.5.17: 12 of 12 rules apply", self.doctor())  # one came later
        for file, before, after, said in (
                ("base_runner.py", "warmup", "warm_up", "BaseRunner.warmup is not there; warm-ups and captures may be taken for traffic"),
                ("decode_cuda_graph_runner.py", "raw_bs", "batch", "build_replay_fb_view has lost a parameter"),
                ("eager_runner.py", None, None, "eager_runner: no such module")):
            with self.subTest(file):
                files = {RUNNERS + file: SGLANG[RUNNERS + file].replace(before, after)} if before else {}
                if not before: os.remove(os.path.join(self.folder, RUNNERS + file))
                self.install("sglang", "0.5.17", files)
                self.assertIn(said, " ".join(self.doctor(status=1).split()))
                self.install("sglang", "0.5.17", SGLANG)
        # What came later is looked for from then on.
        os.remove(os.path.join(self.folder, "sglang-0.5.17.dist-info/METADATA"))
        os.rmdir(os.path.join(self.folder, "sglang-0.5.17.dist-info"))
        self.install("sglang", "0.5.23", SGLANG)
        self.assertIn("fast_mla_prefill_plan is not there", " ".join(self.doctor(status=1).split()))

    def test_record_says_what_it_will_not_see(self):
        script = os.path.join(self.folder, "engine")
        with open(script, "w") as file: file.write(f"#!{sys.executable}\n")
        os.chmod(script, 0o755)

        def said(*command, flags=()):
            result = subprocess.run([BINARY, "record", *flags, "-o", os.path.join(self.folder, "recording"), "--", *command], text=True, timeout=60,
                                    capture_output=True, cwd=self.folder, env={**os.environ, "XDG_CACHE_HOME": self.folder, "PYTHONPATH": self.folder})
            self.assertEqual(result.returncode, 0, result.stderr)
            return " ".join(result.stderr.split()).partition(" collect-workloads: nothing was recorded")[0]

        self.assertIn("FlashInfer is not installed for", said(sys.executable, "-c", ""))
        for path, text in FLASHINFER.items():  # a folder on the path
            os.makedirs(os.path.dirname(os.path.join(self.folder, path)), exist_ok=True)
            with open(os.path.join(self.folder, path), "w") as file: file.write(text)
        self.assertIn("recording was not tried with FlashInfer of unknown version", said(sys.executable, "-c", ""))
        self.install("flashinfer-python", "0.7.2.post1", FLASHINFER)
        self.install("sglang", "0.5.17", SGLANG)
        self.assertTrue(said(sys.executable, "-c", "").startswith("collect-workloads: nothing was recorded"), "and that alone")
        self.install("sglang", "0.5.17", {RUNNERS + "base_runner.py": "class BaseRunner:\n    def _dummy_run(self): ...\n"})
        broken = "warm-ups and captures may be taken for traffic: sglang.srt.model_executor.runner.base_runner: BaseRunner.warmup is not there"
        for command in ([sys.executable, "-c", ""], ["A=1", script], [script]):
            self.assertIn(broken, said(*command))
        # In the environment that the command has, and not of a program that only sounds like one.
        self.assertNotIn(broken, said("PYTHONPATH=/nonexistent", script))
        server = os.path.join(self.folder, "python_server")
        with open(server, "w") as file: file.write("#!/bin/sh\necho run >> ran\n")
        os.chmod(server, 0o755)
        self.assertNotIn(broken, said(server))
        self.assertEqual(open(os.path.join(self.folder, "ran")).read(), "run\n")
        with open(script, "w") as file: file.write(f"#!/usr/bin/env -S uv run --python {sys.executable}\n")
        os.chmod(script, 0o755)
        self.assertNotIn(broken, said("sh", "-c", "exit 0", script))
        with open(script, "w") as file: file.write(f"#!/usr/bin/env -S A=1 {sys.executable}\n")
        self.assertIn(broken, said(script))
        self.assertNotIn(broken, said(script, flags=["-q"]))
        self.assertNotIn(broken, said("true"), "whose Python nobody knows")
        self.install("flashinfer-python", "9.0", FLASHINFER)
        os.remove(os.path.join(self.folder, "flashinfer_python-0.7.2.post1.dist-info/METADATA"))
        self.assertIn("recording was not tried with FlashInfer 9.0", said(script))

    def test_pythons_that_are_none(self):
        for python, said in (("/nonexistent", "cannot be asked what is installed"), ("/bin/true", "its answer is no JSON"), ("/bin/echo", "no JSON")):
            result = subprocess.run([BINARY, "doctor", "--python", python], capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 1)
            self.assertIn(said, result.stderr)

    # Read in the released wheels: which rules apply, and which bindings find nothing.
    RELEASED = {
        ("sglang-0.5.17", "flashinfer_python-0.6.15.post1"): (14, ["gdn_prefill"]),
        ("sglang-0.5.23", "flashinfer_python-0.7.2.post1"): (16, ["gdn_prefill"]),
        ("vllm-0.33.0", "flashinfer_python-0.7.2.post1"): (17, ["gdn_prefill"]),
        ("sglang-0.5.23", "flashinfer_python-0.7.4"): (16, []),
    }

    @unittest.skipUnless(os.environ.get("CW_WHEELS"), "tools/test downloads the wheels")
    def test_released_versions(self):
        def unpacked(name):
            folder = os.path.join(self.folder, name)
            if not os.path.isdir(folder):
                (wheel,) = glob.glob(os.path.join(os.environ["CW_WHEELS"], name + "-*.whl"))
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder, [n for n in archive.namelist() if n.endswith((".py", "METADATA"))])
            return folder

        for names, (rules, missing) in self.RELEASED.items():
            with self.subTest(names):
                said = self.doctor("--json", path=":".join(map(unpacked, names)))
                self.assertTrue(said["healthy"], said["rules"])
                self.assertTrue(all(package["tried"] for package in said["packages"].values() if package["version"]))
                self.assertEqual(len(said["rules"]), rules)
                self.assertEqual(sorted(name for name, why in said["bindings"].items() if why), missing)


if __name__ == "__main__":
    unittest.main()
