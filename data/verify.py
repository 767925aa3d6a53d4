"""Makes every workload executable with flashinfer-bench's own loader, and runs it once through its definition's reference.

`collect-workloads verify` starts this in a Python that has flashinfer-bench. argv[1] is a job (JSON), results are appended
to a file of JSON lines as they come: a workload that takes the process down with it is the one that was begun last.

A job with "calls" asks of level-10 dumps that `flashinfer replay` calls a mismatch why that decides nothing; the answer is printed.
"""
import importlib.metadata, json, math, os, pathlib, platform, sys, traceback

DEVICE_BROKEN = 75  # the exit status that asks for another process: after an error on the device nothing works any more


def main():
    with open(sys.argv[1]) as file: job = json.load(file)
    if "calls" in job:
        print(json.dumps({name: reason for name in job["calls"] if (reason := undecided(pathlib.Path(job["dumps"]) / name))}))
        return 0
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


def undecided(folder):
    """Why replay's verdict on this call says nothing of the call; None when it does. As of flashinfer/api_logging.py, replay_from_dump, in
    0.6.15 to 0.7.4: it hands on what it does not know as the dictionary that stands in the record, and compares as torch.allclose does."""
    try:
        record = json.loads((folder / "metadata.jsonl").read_text().splitlines()[-1])
        for name, value in record.get("input_metadata", {}).items():
            if name.startswith("kwarg_") and "__" in name[len("kwarg_"):]: return f"keyword {name[len('kwarg_'):]}: replay does not pass those with two underscores"
            kind = value.get("type") if isinstance(value, dict) else None
            if kind == "enum": return f"{name} is an enumeration, which replay hands on as a dictionary"
            if kind not in (None, "torch.dtype", "torch.Tensor", "tuple", "list", "dict"): return f"{name} is a {kind}, which replay cannot make again"
            if kind in ("tuple", "list", "dict") and value.get("truncated"): return f"{name} is a {kind} that the dump cuts off"
        keys = record.get("tensor_info", {}).get("input_tensor_keys") or list(record.get("tensor_details", {}))
        for key in keys:
            if key.startswith("kwarg_") and "__" in key[len("kwarg_"):]: return f"keyword {key[len('kwarg_'):]}: replay does not pass those with two underscores"
        result = record.get("output_metadata", {}).get("result")
        if isinstance(result, dict) and result.get("type") in ("list", "dict"): return f"the result is a {result['type']}, which replay always calls a mismatch"

        import torch
        if (folder / "outputs.pt").exists(): outputs = torch.load(folder / "outputs.pt", map_location="cpu", weights_only=True)
        elif (folder / "outputs.safetensors").exists():
            from safetensors.torch import load_file
            outputs = load_file(folder / "outputs.safetensors")
        else: return None
        for name, output in outputs.items():
            if output.is_floating_point() and output.float().isnan().any(): return f"{name} holds NaN, which equals nothing, itself included"
    except Exception:
        pass  # it is as replay says
    return None


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
