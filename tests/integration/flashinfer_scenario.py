"""Calls of FlashInfer's API with its own signatures: two GQA wrappers at once, an extend in two halves, MLA, norms, sampling,
a wrapper of pages of 64. The same seed makes the same calls."""
import random
import sys

import torch
from flashinfer_api import load

BF = torch.bfloat16
H, KV, D = 32, 8, 128
rng = random.Random(int(sys.argv[1]))


def plan_body(arguments):
    self, given = arguments["self"], arguments.get("kwargs") or {}
    self._sm_scale = arguments.get("sm_scale", given.get("sm_scale"))
    self._causal = arguments.get("causal", False)


def set_layout(arguments):
    arguments["self"]._kv_layout = arguments.get("kv_layout", "NHD")


def result(arguments):
    q = arguments.get("q", arguments.get("q_nope"))
    out = torch.zeros_like(q)
    return (out, torch.zeros(q.shape[:-1])) if arguments.get("return_lse") else out


bodies = {"__init__": set_layout, "plan": plan_body, "run": result}
Decode = load("decode.py", "BatchDecodeWithPagedKVCacheWrapper", bodies)
Paged = load("prefill.py", "BatchPrefillWithPagedKVCacheWrapper", bodies)
Ragged = load("prefill.py", "BatchPrefillWithRaggedKVCacheWrapper", bodies)
MLA = load("mla/**/*.py", "BatchMLAPagedAttentionWrapper", bodies)
rmsnorm, fused_add_rmsnorm = load("norm/*.py", "rmsnorm"), load("norm/*.py", "fused_add_rmsnorm")
sample = load("sampling.py", "top_k_top_p_sampling_from_probs")

workspace = torch.zeros(64, dtype=torch.uint8)
ones = torch.ones(4096, dtype=torch.int32)


def zeros(*shape):
    return torch.zeros(shape, dtype=BF)


def tables(lengths, page, pages):
    counts = [-(-n // page) for n in lengths]
    indptr = torch.tensor([sum(counts[:i]) for i in range(len(counts) + 1)], dtype=torch.int32)
    indices = torch.tensor(rng.sample(range(pages), sum(counts)), dtype=torch.int32)
    return indptr, indices, torch.tensor([(n - 1) % page + 1 for n in lengths], dtype=torch.int32)


def lengths(count, most):
    return [rng.randint(1, most) for _ in range(count)]


def decode(wrapper, pool, count, most, sm_scale=None, page=1, layers=3):
    indptr, indices, last = tables(lengths(count, most), page, pool[0].shape[0])
    more = {} if sm_scale is None else {"sm_scale": sm_scale}
    wrapper.begin_forward(indptr, indices, last if page > 1 else ones[:count], H, KV, D, page, data_type=BF, q_data_type=BF,
                          non_blocking=True, **more)
    for _ in range(layers):
        rmsnorm(zeros(count, 4096), zeros(4096), 1e-5)
        if page == 1:
            wrapper.forward(zeros(count, H, D), pool, sm_scale=D ** -0.5, logits_soft_cap=0.0)
        else:
            wrapper.run(zeros(count, H, D), pool)
        fused_add_rmsnorm(zeros(count, 4096), zeros(count, 4096), zeros(4096), 1e-5)


pool = (zeros(512, KV, D), zeros(512, KV, D))
pool64 = (zeros(16, 64, KV, D), zeros(16, 64, KV, D))
a, b, by_64 = Decode(workspace, "NHD"), Decode(workspace, "NHD"), Decode(workspace, "NHD")
for _ in range(6):
    decode(rng.choice((a, b)), pool, rng.randint(1, 9), 30)
# Two plans, then two runs: each run has its own wrapper's.
tables_a, tables_b = tables([3, 4, 5], 1, 512), tables([9, 9], 1, 512)
a.plan(tables_a[0], tables_a[1], ones[:3], H, KV, D, 1, data_type=BF)
b.plan(tables_b[0], tables_b[1], ones[:2], H, KV, D, 1, data_type=BF)
a.forward(zeros(3, H, D), pool, sm_scale=D ** -0.5)
b.forward(zeros(2, H, D), pool, sm_scale=D ** -0.5)
decode(by_64, pool64, 3, 300, sm_scale=0.1, page=64)

paged, ragged = Paged(workspace, "NHD"), Ragged(workspace, "NHD")
for is_extend in (False, True, True):
    q = lengths(3, 12)
    kv = [n + rng.randint(0, 20) for n in q]
    qo = torch.tensor([sum(q[:i]) for i in range(4)], dtype=torch.int32)
    indptr, indices, _ = tables(kv, 1, 512)
    unused = torch.cat([indices, torch.full((256,), 2 ** 30, dtype=torch.int32)])
    if is_extend:
        ragged.begin_forward(qo, qo, H, KV, D, q_data_type=BF)
    paged.begin_forward(qo, indptr, unused, ones[:3], H, KV, D, 1, q_data_type=BF, kv_data_type=BF, non_blocking=True)
    for _ in range(2):
        query = zeros(int(qo[-1]), H, D)
        if is_extend:
            ragged.forward_return_lse(query, zeros(int(qo[-1]), KV, D), zeros(int(qo[-1]), KV, D), causal=True, sm_scale=D ** -0.5)
            paged.forward_return_lse(query, pool, causal=False, sm_scale=D ** -0.5)
        else:
            paged.forward(query, pool, causal=True, sm_scale=D ** -0.5)

cache = zeros(512, 1, 576)
mla = MLA(workspace)
for causal in (False, True):
    kv = lengths(4, 40)
    indptr, indices, _ = tables(kv, 1, 512)
    qo = torch.arange(5, dtype=torch.int32)
    mla.plan(qo, indptr, indices, torch.tensor(kv, dtype=torch.int32), 16, 512, 64, 1, causal, 0.0722, BF, BF)
    for _ in range(2):
        mla.run(zeros(4, 16, 512), zeros(4, 16, 64), cache[:, :, :512], cache[:, :, 512:], return_lse=False)

for count in (1, 5):
    probs = torch.rand(count, 128256)
    sample(probs, torch.randint(1, 50, (count,), dtype=torch.int32), torch.full((count,), 0.9), filter_apply_order="joint")
print("done")
