"""The recorder's module, and functions hooked as the recorder's Python hooks them, for recorder.py and recorder_step.py."""
import functools
import json
import pathlib
import sys
import tempfile

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "recorder/python"))
import collect_workloads_recorder  # noqa: E402

# torch's way to read tensors without Python, or None before 2.10.
exchange = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
_folder = tempfile.TemporaryDirectory()  # as long as the process


def load(folder):
    """The module in a folder (_collect_workloads_recorder.abi3.so), recording to a temporary one."""
    sys.path.insert(0, str(folder))
    import _collect_workloads_recorder as native

    native.configure(_folder.name.encode(), json.dumps({"budget": 1 << 30}))
    samples = [] if exchange is None else collect_workloads_recorder._samples(torch)
    try:
        native.set_tensors(torch.Tensor, torch.dtype, exchange, None, *samples)
    except TypeError:  # a build from before December 2026
        native.set_tensors(torch.Tensor, torch.dtype, exchange, None)
    return native


def hook(native, function, names, role="function", values=None, state=()):
    call = native.hook(function, json.dumps({
        "function": function.__name__, "module": "bench", "signature": "(" + ", ".join(names) + ")", "role": role,
        "parameters": names, "positional": len(names), "state": list(state), "values": values or {}}))

    @functools.wraps(function)
    def hooked(*args, **kwargs):
        return call(args, kwargs)

    native.enter_directly(hooked, call)
    return hooked
