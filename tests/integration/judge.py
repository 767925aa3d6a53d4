"""flashinfer-bench from PyPI is the judge: it loads what is made, and makes every input of every workload.

  judge.py FOLDER    of all datasets in it, those that tests made and `validate` called valid"""
import concurrent.futures
import pathlib
import sys

import torch
from flashinfer_bench.bench.utils import gen_inputs, load_safetensors
from flashinfer_bench.data import TraceSet
from flashinfer_bench.utils import dtype_str_to_torch_dtype

# Nobody looks at the values of activations, and nine tenths of the time would go into drawing them.
torch.randn = torch.empty


def judge(trace):
    """How many workloads it loaded; AssertionError names what it could not."""
    trace_set = TraceSet.from_path(str(trace))
    count = 0
    for name, traces in trace_set.workloads.items():
        definition = trace_set.definitions[name]
        for item in traces:
            workload = item.workload
            inputs = gen_inputs(definition, workload, "cpu", load_safetensors(definition, workload, trace))
            for (input_name, spec), value, shape in zip(definition.inputs.items(), inputs, definition.get_input_shapes(workload.axes)):
                where = f"{trace}: {name}, workload {workload.uuid}, input {input_name}"
                assert input_name in workload.inputs, f"{where}: left out, so that it is random"
                if shape is None:
                    assert isinstance(value, (int, float)), where
                else:
                    assert list(value.shape) == list(shape) and value.dtype == dtype_str_to_torch_dtype(spec.dtype), where
            values = dict(zip(definition.inputs, inputs))
            if "kv_indices" in values and workload.inputs["kv_indices"].type == "safetensors":
                assert values["kv_indices"].numel() == 0 or int(values["kv_indices"].max()) < workload.axes["num_pages"], f"{trace}: {name}"
                # The definition's own constraints, by Python itself.
                for constraint in definition.constraints:
                    assert eval(constraint, {}, {**workload.axes, **values}), f"{trace}: {name}: {constraint}"
            count += 1
    return count


if __name__ == "__main__":
    datasets = sorted(path for path in pathlib.Path(sys.argv[1]).iterdir())
    with concurrent.futures.ProcessPoolExecutor() as pool:  # one process per processor
        loaded = sum(pool.map(judge, datasets))
    print(f"{len(datasets)} datasets, {loaded} workloads loaded")
    assert len(datasets) > 20 and loaded > 500
