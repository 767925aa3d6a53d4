"""Random calls that come again and again, mostly with something changed: a shape, a type, a number, a keyword, the wrapper's
attributes, a tensor in place. The same seed makes the same calls. With "described", each call is described anew, and none is
recognized by what the recorder knows of the ones before."""
import random
import sys
import types

import collect_workloads_recorder

seed, way = sys.argv[1:]
if way == "described": collect_workloads_recorder._samples = lambda torch: []
import flashinfer_api  # noqa: E402
import torch  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

rng = random.Random(int(seed))
recorded = flashinfer_api.api_logging.flashinfer_api


def body(arguments):
    if rng.random() < 0.01: raise ValueError("the call fails")


@recorded
def linear(x, weight, bias=None, *, scale=1.0, mode="fast", out=None, **more): body(locals())


@recorded
def scaled(x): body(locals())


@recorded
def outer(x, items, eps=1e-6):
    linear(x, x, scale=eps)
    body(locals())


def plan(arguments):
    arguments["self"]._sm_scale, arguments["self"]._causal = rng.choice((0.1, 0.2)), True


bodies = {"__init__": lambda _: None, "plan": plan, "run": body}
sample = flashinfer_api.load("sampling.py", "top_k_top_p_sampling_from_probs")
Wrapper = flashinfer_api.load("decode.py", "BatchDecodeWithPagedKVCacheWrapper", bodies)


def new(*shape, dtype=torch.bfloat16): return torch.zeros(shape, dtype=dtype)


# What calls are made of: tensors that stay, and values that are equal and not one.
weights = [torch.nn.Parameter(new(4, 6)), torch.nn.Parameter(new(6, 6)), new(6), new(1, 2, 3, 1, 2), new(1, 1, 1, 1, 1, 2), new(),
           new(4, 6, dtype=torch.int32), new(6, 4).t(), torch.zeros(2, 3, device="meta"), torch.zeros(3, 3).to_sparse(), new(8, 6)[::2]]
# Tensors that differ in what is not their shape and type: sparse ones, and those of a device that is not there.
weights += [new(4, 6).to_sparse(), new(6, 6).to_sparse_csr(), torch.zeros(4, 6, dtype=torch.bfloat16, device="meta")]
with FakeTensorMode(): weights += [torch.zeros(4, 6, dtype=torch.bfloat16, device=device) for device in ("cpu", "cuda")]
numbers = [None, True, 0, 1, 2 ** 70, 7.5, float("nan"), -0.0, 0.0, "fast", "not an option", "long" * 9, torch.float16, object, len,
           types.SimpleNamespace(), (1, 2), [new(2), new(2, 2)], (new(3), None), [[new(1)]], [], torch.Size((1, 2))]
wrappers = [Wrapper(new(8, dtype=torch.uint8)) for _ in range(2)]
pool = new(16, 1, 8, 128), new(16, 1, 8, 128)


def plan_of(wrapper, count):
    indptr = torch.arange(count + 1, dtype=torch.int32)
    wrapper.plan(indptr, torch.arange(count, dtype=torch.int32), torch.ones(count, dtype=torch.int32), 32, 8, 128, 1)


def change():
    """Something that the same objects are from now on."""
    kind = rng.randrange(7)
    if kind == 0: weights[0].data = new(rng.choice((4, 5)), 6)
    elif kind == 1: weights[2].resize_(rng.choice((6, 7)))
    elif kind == 2: weights[1].data = new(6, 6, dtype=rng.choice((torch.bfloat16, torch.float16)))
    elif kind == 3: wrappers[0]._sm_scale = rng.choice((0.1, 0.3, None))
    elif kind == 4: wrappers[1].__dict__.pop("_causal", None)
    elif kind == 5: wrappers[0].k_scale = None
    else: wrappers[1].__dict__ = dict(reversed(wrappers[1].__dict__.items()))


def call():
    kind, x = rng.randrange(10), new(rng.choice((1, 2, 3)), 6)
    if kind < 3:
        linear(x, rng.choice(weights))
    elif kind == 3:
        given = {name: rng.choice(numbers) for name in rng.sample(("bias", "scale", "mode", "out", "other"), rng.randrange(4))}
        linear(x, weight=rng.choice(weights), **given)
    elif kind == 4 and rng.random() < 0.5:
        linear(x, weights[2], **{rng.choice(("bias", "scale", "other", "another")): rng.choice((None, 0.5))})
    elif kind == 4:
        outer(x, rng.choice(numbers), eps=float(rng.choice(("0.5", "0.25"))))
    elif kind == 5:
        linear(*[rng.choice((x, pool[0]))] * rng.randint(2, 3))
    elif kind == 9:  # of more shapes than are remembered
        for rows in range(1, 13): scaled(new(rows, 6))
    elif kind == 6:  # of which values are taken, now and then
        count = rng.choice((1, 2, 3))
        sample(new(count, 16), torch.tensor([rng.randint(1, 4)] * count, dtype=torch.int32), 0.9)
    else:
        given = rng.choice(({}, {}, {"k_scale": None}, {"k_scale": 0.5, "return_lse": True}))
        rng.choice(wrappers).run(new(2, 32, 128), pool, **given)


for wrapper in wrappers: plan_of(wrapper, 2)
for step in range(40):
    if rng.random() < 0.4: change()
    if rng.random() < 0.3: plan_of(rng.choice(wrappers), 2)
    calls, repeats = rng.getstate(), rng.choice((1, 2, 6))
    for _ in range(repeats):
        rng.setstate(calls)  # a step makes the calls of the last one
        for _ in range(30):
            try: call()
            except ValueError: pass

can = way == "recognized" and hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
assert collect_workloads_recorder._read_tensors.recognizes == can
assert (collect_workloads_recorder._native.recognized() > 400) == can, collect_workloads_recorder._native.recognized()
