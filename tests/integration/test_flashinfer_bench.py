"""What is made, by the judge's eyes (judge.py)."""
import json
import unittest

import safetensors.torch
import torch

from judge import judge
from support import DatasetTest, run, unpack


class Loader(DatasetTest):
    def test_cpu_small(self):
        for size in ("used", "compact"):
            trace = self.new_trace(size)
            run("sanitize", "--dumps", unpack("cpu-small", self.folder), "--trace-dir", trace, "--num-pages", size, check=0)
            self.assertGreaterEqual(judge(trace), 22)

    def test_sglang(self):
        run("sanitize", "--dumps", unpack("sglang-0.5.17-llama-ps1", self.folder), "--trace-dir", self.trace, check=0)
        self.assertGreaterEqual(judge(self.trace), 15)

    def test_float4_and_float8_e8m0_as_torch_writes_them(self):
        """Dumps of both formats, from PyTorch itself: shapes are torch's in the record, in the workload and for the judge."""
        a = torch.arange(32, dtype=torch.uint8).reshape(4, 8).view(torch.float4_e2m1fn_x2)
        b = torch.zeros(16, 8, dtype=torch.float16)
        scale = torch.ones(4, 1, dtype=torch.uint8).view(torch.float8_e8m0fnu)
        definition = json.loads(next((self.trace / "definitions/gemm").glob("*.json")).read_text())
        definition.update(name="gemm_float4", axes={"M": {"type": "var"}, "N": {"type": "const", "value": 16}, "K": {"type": "const", "value": 8}})
        definition["inputs"]["A"]["dtype"] = "float4_e2m1"
        for extension in ("safetensors", "pt"):
            trace = self.new_trace(extension)
            (trace / "definitions/gemm/gemm_float4.json").write_text(json.dumps(definition))
            folder = self.folder / f"dumps-{extension}" / "20261122_100000_001_pid77_linear_call0001"
            folder.mkdir(parents=True)
            tensors = {"arg_0": a, "arg_1": b, "arg_3": scale}
            if extension == "pt": torch.save(tensors, folder / "inputs.pt")
            else: safetensors.torch.save_file(tensors, folder / "inputs.safetensors")
            details = {key: {"shape": list(t.shape), "dtype": str(t.dtype), "stride": list(t.stride()), "device": "cpu"} for key, t in tensors.items()}
            record = {"function_name": "linear", "module": "torch", "call_sequence": 1, "timestamp": "20261122_100000_001", "process_id": 77, "input_metadata": {"arg_2": None},
                      "output_metadata": {"result": None}, "tensor_details": details, "tensor_format": "torch" if extension == "pt" else "safetensors", "execution_status": "completed",
                      "tensor_info": {"input_tensor_keys": list(tensors), "output_tensor_keys": []}, "function_signature": "(input, weight, bias=None, scale=None)", "graph_capture": False,
                      "versions": {"flashinfer": "0.7.4"}}
            (folder / "metadata.jsonl").write_text(json.dumps(record) + "\n")
            run("sanitize", "--dumps", folder.parent, "--trace-dir", trace, check=0)
            run("validate", "--trace-dir", trace, check=0)
            self.assertEqual(judge(trace), 1)
            (line,) = (trace / "workloads/gemm/gemm_float4.jsonl").read_text().splitlines()
            spec = json.loads(line)["workload"]["inputs"]["A"]
            stored = safetensors.torch.load_file(trace / spec["path"])[spec["tensor_key"]]
            self.assertEqual(list(stored.shape), [4, 8])
            self.assertTrue(torch.equal(stored.view(torch.uint8), a.view(torch.uint8)))

            # What the judge cannot generate, validate refuses.
            changed = json.loads(line)
            changed["workload"]["inputs"]["A"] = {"type": "random"}
            (trace / "workloads/gemm/gemm_float4.jsonl").write_text(json.dumps(changed) + "\n")
            self.assertIn("flashinfer-bench cannot generate", run("validate", "--trace-dir", trace, check=1).stdout)
            with self.assertRaises(Exception): judge(trace)

    def test_what_the_judge_cannot_load_is_not_valid(self):
        run("sanitize", "--dumps", unpack("cpu-small", self.folder), "--trace-dir", self.trace, check=0)
        lines = next((self.trace / "workloads").rglob("*decode_h32_kv8_d128_ps1.jsonl"))
        path = self.trace / "definitions/gqa_paged" / (lines.stem + ".json")
        definition, content = path.read_text(), lines.read_text()
        scalar = content.index('"value":')
        infinite = content[:scalar] + '"value": Infinity' + content[content.index("}", scalar):]
        for name, file, text in (("a byte order mark", path, "\ufeff" + definition), ("a byte order mark", lines, "\ufeff" + content),
                                 ("uint8", path, definition.replace('"dtype": "bfloat16"', '"dtype": "uint8"', 1)), ("Infinity", lines, infinite),
                                 ("is missing", path, definition.replace('"sm_scale": {', '"return_lse": {"shape": null, "dtype": "int32", "optional": true}, "sm_scale": {', 1))):
            before = file.read_text()
            file.write_text(text)
            with self.subTest(name, file=file.name):
                self.assertIn(name, " ".join(run("validate", "--trace-dir", self.trace, check=1).stdout.split()))
                if name == "Infinity":  # it reads that, and cannot read what it writes itself
                    from flashinfer_bench.data import Trace
                    item = Trace.model_validate_json(text.splitlines()[0])
                    with self.assertRaises(Exception): Trace.model_validate_json(item.model_dump_json())
                else:
                    with self.assertRaises(Exception): judge(self.trace)
            file.write_text(before)
        run("validate", "--trace-dir", self.trace, check=0)


if __name__ == "__main__": unittest.main()
