"""Plain PyTorch references for the definitions that tests and GPU runs collect. The dataset's own definitions come with
theirs; the copies in tests/data have them cut out.

    python3 tests/references.py DATASET    fills them in"""
import json, pathlib, sys

COMMON = '''
import torch


def attend(q, k, v, scale, causal):
    """q [m, h, d], k [n, g, d], v [n, g, e] -> [m, h, e], lse [m, h] in base 2."""
    group = q.shape[1] // k.shape[1]
    k, v = k.float().repeat_interleave(group, 1), v.float().repeat_interleave(group, 1)
    logits = torch.einsum("mhd,nhd->hmn", q.float(), k) * scale
    if causal:
        m, n = logits.shape[1:]
        logits.masked_fill_(torch.ones(m, n, dtype=torch.bool, device=q.device).triu(n - m + 1), float("-inf"))
    lse = torch.logsumexp(logits, -1)
    out = torch.einsum("hmn,nhe->mhe", torch.softmax(logits, -1), v)
    return out, lse.t() / 0.6931471805599453


def over_sequences(q, spans, keys, scale, causal, width):
    out = torch.zeros(q.shape[0], q.shape[1], width, dtype=q.dtype, device=q.device)
    lse = torch.full(q.shape[:2], float("-inf"), device=q.device)
    for q_begin, q_end, kv_begin, kv_end in spans:
        if q_end > q_begin and kv_end > kv_begin:
            k, v = keys(kv_begin, kv_end)
            part, part_lse = attend(q[q_begin:q_end], k, v, scale, causal)
            out[q_begin:q_end], lse[q_begin:q_end] = part.to(q.dtype), part_lse
    return out, lse


def spans_of(qo_indptr, kv_indptr):
    a, b = qo_indptr.tolist(), kv_indptr.tolist()
    return [(a[i], a[i + 1], b[i], b[i + 1]) for i in range(len(b) - 1)]
'''

RMSNORM = '''
import torch


def run(hidden_states, weight):
    x = hidden_states.float()
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.float()).to(hidden_states.dtype)
'''
FUSED_ADD_RMSNORM = RMSNORM.replace("hidden_states, weight", "hidden_states, residual, weight").replace(
    "hidden_states.float()", "hidden_states.float() + residual.float()")
SAMPLING = '''
import torch


def run(probs, top_k, top_p):
    ordered, index = probs.sort(-1, descending=True)
    rank = torch.arange(probs.shape[1], device=probs.device)
    keep = (rank < top_k[:, None]) & (ordered.cumsum(-1) - ordered < top_p[:, None])
    kept = torch.where(keep, ordered, 0)
    return index.gather(1, torch.multinomial(kept, 1))[:, 0].to(torch.int32)
'''
GQA_KEYS = '''
    def keys(begin, end):
        pages = kv_indices[begin:end].long()
        return k_cache[pages].flatten(0, 1), v_cache[pages].flatten(0, 1)
'''
MLA_KEYS = '''
    def keys(begin, end):
        pages = kv_indices[begin:end].long()
        ckv = ckv_cache[pages].flatten(0, 1)[:, None]
        return torch.cat([ckv, kpe_cache[pages].flatten(0, 1)[:, None]], -1), ckv
'''
# Pages of several tokens: the last one of a sequence may not be full.
PAGED_KEYS = '''
    page = k_cache.shape[1]
    last = dict(zip(kv_indptr.tolist(), kv_last_page_len.tolist()))

    def keys(begin, end):
        pages = kv_indices[begin:end].long()
        tokens = (int(end) - int(begin) - 1) * page + last[int(begin)]
        return k_cache[pages].flatten(0, 1)[:tokens], v_cache[pages].flatten(0, 1)[:tokens]
'''
DECODE_SPANS = "spans_of(torch.arange(len(kv_indptr)), kv_indptr)"
PREFILL_SPANS = "spans_of(qo_indptr, kv_indptr)"


def reference(definition):
    """Source, or nothing where there is none yet. Of MLA, page size 1 only."""
    name, op_type, inputs = definition["name"], definition["op_type"], list(definition["inputs"])
    head = f"\n\ndef run({', '.join(inputs)}):\n"
    is_prefill = "qo_indptr" in inputs
    spans = PREFILL_SPANS if is_prefill else DECODE_SPANS
    if name.startswith("fused_add_rmsnorm"): return FUSED_ADD_RMSNORM
    if name.startswith("rmsnorm"): return RMSNORM
    if name.startswith("top_k_top_p_sampling_from_probs"): return SAMPLING
    if op_type == "gqa_paged":
        return COMMON + head + (GQA_KEYS if name.endswith("_ps1") else PAGED_KEYS) + f"    return over_sequences(q, {spans}, keys, sm_scale, {is_prefill}, v_cache.shape[-1])\n"
    if op_type == "mla_paged" and name.endswith("_ps1"):
        return (COMMON + head + MLA_KEYS +
                f"    q = torch.cat([q_nope, q_pe], -1)\n    return over_sequences(q, {spans}, keys, sm_scale, {is_prefill}, q_nope.shape[-1])\n")
    if op_type in ("gqa_ragged", "mla_ragged"):
        return COMMON + head + (f"    return over_sequences(q, {spans}, lambda begin, end: (k[begin:end], v[begin:end]), sm_scale, "
                                f"{'causal' in name}, v.shape[-1])\n")
    return None


def fill(dataset, names=None):
    """Returns how many were filled in."""
    count = 0
    for path in sorted(pathlib.Path(dataset, "definitions").rglob("*.json")):
        definition = json.loads(path.read_text())
        source = reference(definition)
        if source is None or (names is not None and definition["name"] not in names): continue
        definition["reference"] = source.lstrip("\n")
        path.write_text(json.dumps(definition, indent=2) + "\n")
        count += 1
    return count


if __name__ == "__main__":
    print(f"{fill(sys.argv[1])} references")
