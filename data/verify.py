"""Makes every workload executable with flashinfer-bench's own loader, and runs it once through its definition's reference.

`collect-workloads verify` starts this in a Python that has flashinfer-bench. argv[1] is a job (JSON), results are appended
to a file of JSON lines as they come: a workload that takes the process down with it is the one that was begun last.
"""
import importlib.metadata, json, math, os, pathlib, platform, sys, traceback

DEVICE_BROKEN = 75  # the exit status that asks for another process: after an error on the device nothing works any more


def main():
    with open(sys.argv[1]) as file: job = json.load(file)
    results = open(job["results"], "a", buffering=1)
    def say(**item): results.write(json.dumps(item) + "\n")

    try:
        import torch
        from flashinfer_bench.bench.utils import gen_inputs, load_safetensors
        from flashinfer_bench.data import TraceSet
        from flashinfer_bench.utils import dtype_str_to_torch_dtype
    except ImportError as error:
        say(event="missing", message=str(error))
        return 1
    device = job["device"] if job["device"] != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    is_cuda = device.startswith("cuda")
    try:
        name = torch.cuda.get_device_name(device) if is_cuda else platform.processor() or platform.machine()
    except Exception as error:
        say(event="failed", message=f"device {device}: {brief(error)}")
        return 1
    say(event="environment", device=name if is_cuda else f"CPU ({name})", torch=torch.__version__,
        flashinfer_bench=importlib.metadata.version("flashinfer-bench"), python=platform.python_version())
    root = pathlib.Path(job["trace_dir"])
    try:
        traces = TraceSet.from_path(str(root))
    except Exception as error:
        say(event="failed", message=f"flashinfer-bench cannot load the dataset: {brief(error)}")
        return 1

    wanted = {(item["definition"], item["uuid"]) for item in job["items"]}
    done = set()
    for definition_name, workloads in traces.workloads.items():
        definition = traces.definitions[definition_name]
        reference = None
        for trace in workloads:
            workload = trace.workload
            key = (definition_name, workload.uuid)
            if key not in wanted or key in done: continue
            done.add(key)
            about = {"definition": definition_name, "uuid": workload.uuid}
            say(event="begin", **about)
            stage, is_executed, state = "load", False, "not_run"
            try:
                need, free = memory_needed(definition, workload, dtype_str_to_torch_dtype), memory_free(torch, device)
                if need > 0.9 * free:
                    raise MemoryError(f"its inputs need {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {name}")
                inputs = gen_inputs(definition, workload, device, load_safetensors(definition, workload, root))
                if is_cuda: torch.cuda.synchronize()
                if job["reference"]:
                    stage = "execute"
                    reference = reference or load_reference(definition)
                    state = "ran"
                    try:
                        with torch.no_grad(): reference(*inputs)
                        if is_cuda: torch.cuda.synchronize()
                        is_executed = True
                    except NotImplementedError:
                        # How a definition says that it has none; PyTorch says so of operators, too.
                        if "raise NotImplementedError" not in definition.reference: raise
                        state = "absent"
                inputs = None
                say(event="passed", executed=is_executed, reference=state, **about)
            except Exception as error:
                inputs = None
                say(event="failed_workload", stage=stage, message=brief(error), reference=state, **about)
                if is_cuda and ("CUDA" in str(error) or "device-side" in str(error)) and "out of memory" not in str(error):
                    return DEVICE_BROKEN
                if is_cuda: torch.cuda.empty_cache()
    for item in job["items"]:
        if (item["definition"], item["uuid"]) not in done:
            say(event="failed_workload", stage="load", message="flashinfer-bench does not find it in the dataset", reference="not_run", **item)
    say(event="end")
    return 0


def load_reference(definition):
    namespace = {}
    exec(compile(definition.reference, f"{definition.name} (reference)", "exec"), namespace)
    return namespace["run"]


def memory_needed(definition, workload, to_dtype):
    total = 0
    for spec, shape in zip(definition.inputs.values(), definition.get_input_shapes(workload.axes)):
        if shape is not None:
            # Random values are drawn as float32 first.
            total += math.prod(shape) * max(4, to_dtype(spec.dtype).itemsize)
    return total


def memory_free(torch, device):
    if device.startswith("cuda"): return torch.cuda.mem_get_info(device)[0]
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def brief(error):
    """The error, and the line of the reference that raised it."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.endswith("(reference)"): return f"{text} (reference, line {frame.lineno})"
    return text


if __name__ == "__main__":
    sys.exit(main())
