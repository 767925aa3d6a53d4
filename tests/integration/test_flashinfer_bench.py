"""flashinfer-bench from PyPI is the judge: it loads what is made, and makes every input of every workload."""
import unittest

from support import DatasetTest, run, unpack

import torch
from flashinfer_bench.bench.utils import gen_inputs, load_safetensors
from flashinfer_bench.data import TraceSet
from flashinfer_bench.utils import dtype_str_to_torch_dtype


class Loader(DatasetTest):
    def check(self, trace, at_least):
        trace_set = TraceSet.from_path(str(trace))
        count = 0
        for name, traces in trace_set.workloads.items():
            definition = trace_set.definitions[name]
            for item in traces:
                workload = item.workload
                inputs = gen_inputs(definition, workload, "cpu", load_safetensors(definition, workload, trace))
                shapes = definition.get_input_shapes(workload.axes)
                for (input_name, spec), value, shape in zip(definition.inputs.items(), inputs, shapes):
                    with self.subTest(definition=name, input=input_name):
                        if shape is None:
                            self.assertIsInstance(value, (int, float))
                        else:
                            self.assertEqual(list(value.shape), list(shape))
                            self.assertEqual(value.dtype, dtype_str_to_torch_dtype(spec.dtype))
                values = dict(zip(definition.inputs, inputs))
                if "kv_indices" in values:
                    self.assertLess(int(values["kv_indices"].max()), workload.axes["num_pages"])
                    # The definition's own constraints, by Python itself.
                    for constraint in definition.constraints:
                        self.assertTrue(eval(constraint, {}, {**workload.axes, **values}), constraint)
                count += 1
        self.assertGreaterEqual(count, at_least)

    def test_cpu_small(self):
        for size in ("used", "compact"):
            trace = self.new_trace(size)
            run("sanitize", "--dumps", unpack("cpu-small", self.folder), "--trace-dir", trace, "--num-pages", size, check=0)
            self.check(trace, 22)

    def test_sglang(self):
        run("sanitize", "--dumps", unpack("sglang-0.5.17-llama-ps1", self.folder), "--trace-dir", self.trace, check=0)
        self.check(self.trace, 15)


if __name__ == "__main__": unittest.main()
