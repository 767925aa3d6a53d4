#!/usr/bin/env python3
"""What recording costs an eager step, as an engine feels it: within one process, by turns, everything around the hooks included.

  bench/recorder_step.py [--module FOLDER]... [--seconds N] [--layers N] [--steps N]

with PyTorch 2.10 or newer, on the CPU.

The step is a small decoder's: per layer two norms, four products, a rotation and an attention are hooked, and a plan per step,
257 calls with 32 layers. Between the hooks PyTorch and Python fill the caches, which a loop around one call (bench/recorder.py)
does not show. Blocks of three steps are recorded and paused in turns, in random order; ratios below 1 are slower recorded.
Several modules (--module, more than once) take turns too.

With --steps, so many steps are recorded and nothing is timed, with a megabyte read before every
product: for a simulator of caches (docs/runs/gpu-recorder.md)."""
import argparse
import functools
import json
import pathlib
import random
import statistics
import subprocess
import sys
import time

here = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--module", action="append", help="folder that holds _collect_workloads_recorder.abi3.so")
parser.add_argument("--seconds", type=float, default=15)
parser.add_argument("--layers", type=int, default=32)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", type=int)
arguments = parser.parse_args()
modules = arguments.module or [str(here / "build/release/recorder/plain")]
if len(modules) > 1:
    for _ in range(arguments.rounds):
        for module in modules:
            print(f"{module}: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--module", module, "--seconds", str(arguments.seconds),
                            "--layers", str(arguments.layers)], check=True)
    sys.exit()

import recorder_hooks  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(1)
native = recorder_hooks.load(modules[0])
hook = functools.partial(recorder_hooks.hook, native)
HIDDEN, HEAD = 64, 16
STATE = ("_sm_scale", "_causal", "_window_left", "_logits_soft_cap", "_kv_layout", "_page_size")


def fused_add_rmsnorm(x, residual, weight, eps=1e-6):
    residual.add_(x)
    x.copy_(residual * torch.rsqrt((residual * residual).mean(-1, keepdim=True) + eps) * weight)


def rope(query, key, positions, cache):
    query.mul_(cache[positions])
    key.mul_(cache[positions])


def linear(input, weight, bias=None):
    if arguments.steps: others.sum()
    return F.linear(input, weight, bias)


class Wrapper:
    def __init__(self):
        for name, value in zip(STATE, (0.1, True, -1, 0.0, "NHD", 1)): setattr(self, name, value)

    def plan(self, indptr, indices, last):
        pass

    def forward(self, q, kv):
        return q * kv[0][:1] + kv[1][:1]


Wrapper.plan = hook(Wrapper.plan, ["self", "indptr", "indices", "last"], "plan", {"indptr": [], "indices": ["indptr"], "last": []})
Wrapper.forward = hook(Wrapper.forward, ["self", "q", "paged_kv_cache"], "method", state=STATE)
linear = hook(linear, ["input", "weight", "bias"])
fused_add_rmsnorm = hook(fused_add_rmsnorm, ["input", "residual", "weight", "eps"])
rope = hook(rope, ["query", "key", "positions", "cos_sin_cache"])


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = torch.randn(3 * HIDDEN, HIDDEN), torch.randn(HIDDEN, HIDDEN)
        self.gate_up, self.down = torch.randn(4 * HIDDEN, HIDDEN), torch.randn(HIDDEN, 2 * HIDDEN)
        self.norms = torch.ones(HIDDEN), torch.ones(HIDDEN)
        self.kv = torch.randn(8, HIDDEN // HEAD, HEAD), torch.randn(8, HIDDEN // HEAD, HEAD)

    def forward(self, x, residual, positions):
        fused_add_rmsnorm(x, residual, self.norms[0], eps=1e-6)
        q, k, _ = linear(x, self.qkv).split(HIDDEN, dim=-1)
        q, k = q.contiguous(), k.contiguous()
        rope(q, k, positions, cache)
        x = linear(wrapper.forward(q.view(-1, HIDDEN // HEAD, HEAD), self.kv).reshape(-1, HIDDEN), self.out)
        fused_add_rmsnorm(x, residual, self.norms[1], eps=1e-6)
        gate, up = linear(x, self.gate_up).chunk(2, dim=-1)
        return linear(F.silu(gate) * up, self.down), residual


others = torch.zeros(1 << 18)
cache, wrapper = torch.randn(512, HIDDEN), Wrapper()
layers = [Layer() for _ in range(arguments.layers)]
tables = [torch.arange(count, dtype=torch.int32) for count in (65, 20000, 64)]


def step():
    wrapper.plan(*tables)
    x, residual, positions = torch.randn(8, HIDDEN), torch.randn(8, HIDDEN), torch.arange(8)
    with torch.no_grad():
        for layer in layers: x, residual = layer(x, residual, positions)
    json.dumps(list(range(200)))  # what a scheduler does between steps


def seconds_of_steps(is_paused, count=3):
    native.pause(is_paused)
    step()
    begin = time.perf_counter()
    for _ in range(count): step()
    return (time.perf_counter() - begin) / count


def median(values):
    """With its 95 % interval, by ranks."""
    values = sorted(values)
    count = len(values)
    reach = 0.98 * count ** 0.5
    return statistics.median(values), values[max(0, int(count / 2 - reach))], values[min(count - 1, int(count / 2 + reach))]


if arguments.steps:
    for _ in range(arguments.steps): step()
    native.stop()
    sys.exit()
for _ in range(50): step()
time.sleep(1)  # the collector catches up
order, pairs = random.Random(1), []
end = time.monotonic() + arguments.seconds
while time.monotonic() < end:
    first = order.random() < 0.5
    times = {is_paused: seconds_of_steps(is_paused) for is_paused in (first, not first)}
    pairs.append((times[True], times[False]))
calls = 8 * arguments.layers + 1
ratio = median(paused / recorded for paused, recorded in pairs)
added = median((recorded - paused) / calls * 1e9 for paused, recorded in pairs)
print(f"{len(pairs)} pairs, {statistics.median(p for p, _ in pairs) * 1e3:.2f} ms a step, ratio {ratio[0]:.4f} ({ratio[1]:.4f} to {ratio[2]:.4f}), "
      f"{added[0]:.0f} ns a call ({added[1]:.0f} to {added[2]:.0f})")
native.stop()
