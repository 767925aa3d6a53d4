#!/usr/bin/env python3
"""Nanoseconds that the recorder adds to a call, on this machine: functions that do nothing, hooked and not, in turns.

  bench/recorder.py [--module FOLDER] [--rounds N]     FOLDER holds _collect_workloads_recorder.abi3.so
                                                       (default: build/release/recorder/plain)

With PyTorch 2.10 or newer tensors are read through its DLPack exchange API; `attributes` is what older ones cost.
"""
import argparse
import functools
import pathlib
import statistics
import sys
import time

import recorder_hooks
import torch

here = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--module", default=here / "build/release/recorder/plain")
parser.add_argument("--rounds", type=int, default=7)
arguments = parser.parse_args()
native = recorder_hooks.load(arguments.module)
hook = functools.partial(recorder_hooks.hook, native)


def nothing(*args, **kwargs):
    pass


class Wrapper:
    _sm_scale, _causal, _window_left, _logits_soft_cap, _kv_layout, _page_size = 0.1, True, -1, 0.0, "NHD", 1


x, w, q = torch.zeros(8, 4096), torch.zeros(4096), torch.zeros(8, 32, 128)
kv = (torch.zeros(64, 8, 128), torch.zeros(64, 8, 128))
indptr, indices, last = (torch.arange(n, dtype=torch.int32) for n in (65, 20000, 64))
wrapper = Wrapper()
CALLS = {
    "rmsnorm: two tensors, a float": (hook(nothing, ["input", "weight", "eps"]), (x, w, 1e-6), {}),
    "linear: three arguments": (hook(nothing, ["input", "weight", "bias"]), (x, w, None), {}),
    "run: three tensors, six attributes": (
        hook(nothing, ["self", "q", "paged_kv_cache"], "method",
             state=("_sm_scale", "_causal", "_window_left", "_logits_soft_cap", "_kv_layout", "_page_size")),
        (wrapper, q, kv), {"k_scale": None, "v_scale": None}),
    "plan: 64 sequences, 20,000 indices copied": (
        hook(nothing, ["self", "indptr", "indices", "last_page_len", "heads", "kv_heads", "dim", "page"], "plan",
             {"indptr": [], "indices": ["indptr"], "last_page_len": []}),
        (wrapper, indptr, indices, last, 32, 8, 128, 1), {"data_type": torch.bfloat16, "non_blocking": True}),
}


def nanoseconds(function, args, kwargs, calls):
    begin = time.perf_counter_ns()
    for _ in range(calls):
        function(*args, **kwargs)
    return (time.perf_counter_ns() - begin) / calls


def cold_nanoseconds(function, args, kwargs, calls=200):
    """Of a call that finds the caches full of something else, as it does between an engine's own work."""
    total = 0
    for _ in range(calls):
        other.sum()
        begin = time.perf_counter_ns()
        function(*args, **kwargs)
        total += time.perf_counter_ns() - begin
    return total / calls


other = torch.zeros(8 << 20, dtype=torch.float32)
print(f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, "
      f"{'DLPack exchange API' if recorder_hooks.exchange else 'attributes'}; median of {arguments.rounds} rounds")
print(f"{'nanoseconds that a hook adds to a call':44} {'warm':>8} {'cold':>8} {'paused':>8}")
for name, (hooked, args, kwargs) in CALLS.items():
    calls = 200 if name.startswith("plan") else 20000
    warm, cold, paused = [], [], []
    for _ in range(arguments.rounds):
        warm.append(nanoseconds(hooked, args, kwargs, calls) - nanoseconds(nothing, args, kwargs, calls))
        time.sleep(0.3)  # the collector catches up
        cold.append(cold_nanoseconds(hooked, args, kwargs) - cold_nanoseconds(nothing, args, kwargs))
        native.pause(True)
        paused.append(nanoseconds(hooked, args, kwargs, calls) - nanoseconds(nothing, args, kwargs, calls))
        native.pause(False)
    print(f"{name:44} {statistics.median(warm):8.0f} {statistics.median(cold):8.0f} {statistics.median(paused):8.0f}")
native.stop()
