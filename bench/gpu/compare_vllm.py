#!/usr/bin/env python3
"""Compares a recording of vLLM with what its scheduler handed out, as bench/gpu/probe/probe_truth.py noted it.

  compare_vllm.py RECORDING.cbor PROBE.jsonl TRACE_DIR      needs cbor2, safetensors and numpy

Every step of the scheduler's that has decodes must be a decode plan of the recording (or calls of XQA, one for each layer), every one that
has prefills a prefill plan, in the same order, with the same sequences on the same pages; what was sampled out must be there in number and
size. Plans that are recorded as no traffic must be none of them. And every workload of the dataset must be one of the steps."""
import collections
import hashlib
import json
import pathlib
import struct
import sys

from safetensors.numpy import load_file

from recording import Recording, integers

recording = Recording(sys.argv[1])


def rows_of(kind, page, q, kv, indices, last):
    """Of each sequence [tokens computed, length, SHA-256 of its pages], sorted; rows that pad a graph's batch have no page."""
    rows = []
    for i in range(len(kv) - 1):
        pages = indices[kv[i] - kv[0] : kv[i + 1] - kv[0]] if kind == "workload" else indices[kv[i] : kv[i + 1]]
        if pages:
            digest = hashlib.sha256(struct.pack(f"<{len(pages)}i", *pages)).hexdigest()
            rows.append([q[i + 1] - q[i] if q else 1, (len(pages) - 1) * page + last[i], digest])
    return sorted(rows)


def rows_of_table(page, lengths, entries):
    """The same of the rows of a page table, of which the pages in use lie one row after another."""
    rows, begin = [], 0
    for length in lengths:
        pages = entries[begin : begin + -(-length // page)]
        begin += len(pages)
        if pages:
            rows.append([1, length, hashlib.sha256(struct.pack(f"<{len(pages)}i", *pages)).hexdigest()])
    return sorted(rows)


plans = {"decode": [], "prefill": []}  # (count, rows or None, number of index entries)
dummies = {"decode": 0, "prefill": 0}
pages = set()
tables = []  # of XQA: (calls, rows or None)
replayed = 0
for function, group, scalars, tensors in recording.calls():
    if function == "xqa_batch_decode_with_kv_cache":
        if group.get("dummy"):
            dummies["decode"] += group["count"]
            continue
        pages.add(page := scalars["kv_cache"][0]["shape"][1])
        kept = {name: integers(recording.values[v["hash"]]) for name, v in tensors.items() if v["state"] == "kept"}
        has_values = {"seq_lens", "block_tables"} <= set(kept)
        tables.append((group["count"], rows_of_table(page, kept["seq_lens"], kept["block_tables"]) if has_values else None))
        replayed += group["count"] if group.get("replayed") else 0
        continue
    kind = {"BatchDecodeWithPagedKVCacheWrapper.plan": "decode", "BatchPrefillWithPagedKVCacheWrapper.plan": "prefill"}.get(function)
    if kind is None:
        continue
    if group.get("dummy"):
        dummies[kind] += group["count"]
        continue
    found = {name.replace("paged_kv_", ""): v for name, v in tensors.items()}
    pages.add(scalars["page_size"])
    kept = {name: integers(recording.values[v["hash"]]) for name, v in found.items() if v["state"] == "kept"}
    if {"indptr", "indices", "last_page_len"} <= set(kept) and (kind == "decode" or "qo_indptr" in kept):
        rows = rows_of("plan", scalars["page_size"], kept.get("qo_indptr"), kept["indptr"], kept["indices"], kept["last_page_len"])
    else:
        rows = None
    plans[kind].append((group["count"], rows))
steps = [json.loads(line) for line in open(sys.argv[2])]
truth = {"decode": [sorted(r for r in step if r[0] == 1) for step in steps], "prefill": [sorted(r for r in step if r[0] > 1) for step in steps]}
mixed = sum(1 for step in steps if len({r[0] == 1 for r in step}) == 2)
print(f"{len(steps)} steps of the scheduler, {mixed} of them with decodes and prefills; page sizes {sorted(pages)}")

if tables:
    # Calls of one step's layers may be in several groups; equal ones follow one another.
    decodes = sum(1 for rows in truth["decode"] if rows)
    calls = sum(count for count, _ in tables)
    layers = round(calls / decodes)
    print(f"XQA: {calls} calls for {decodes} steps with decodes, {replayed} of them replayed; {layers} layers")
    left = 0
    for count, rows in tables:
        plans["decode"].append(((left + count) // layers, rows))
        left = (left + count) % layers

wrong = 0
for kind, recorded in plans.items():
    expected = [rows for rows in truth[kind] if rows]
    total = sum(count for count, _ in recorded)
    known = {json.dumps(rows) for rows in expected}
    kept = [rows for _, rows in recorded if rows is not None]
    same = sum(1 for rows in kept if json.dumps(rows) in known)
    # In the scheduler's order, as far as values were kept.
    places = iter(map(json.dumps, expected))
    ordered = sum(1 for rows in kept if any(json.dumps(rows) == place for place in places))
    print(f"{kind}: {total} plans of traffic for {len(expected)} steps, {dummies[kind]} recorded as no traffic; of {len(kept)} with values {same} are the "
          f"scheduler's, {ordered} of them in its order; {sum(count for count, rows in recorded if rows is None)} sampled out")
    wrong += total != len(expected) or same != len(kept)

trace = pathlib.Path(sys.argv[3])
for file in sorted((trace / "workloads").rglob("*.jsonl")):
    kind = "decode" if "decode" in file.name else "prefill"
    known = {json.dumps(rows) for rows in truth[kind] if rows}
    definition = json.loads(next((trace / "definitions").rglob(file.stem + ".json")).read_text())
    page = definition["axes"]["page_size"]["value"]
    same = total = 0
    for line in file.read_text().splitlines():
        inputs = json.loads(line)["workload"]["inputs"]
        blob = {name: load_file(trace / spec["path"])[spec["tensor_key"]].tolist() for name, spec in inputs.items() if spec["type"] == "safetensors"}
        ends = blob.get("kv_last_page_len", [page] * (len(blob["kv_indptr"]) - 1))
        rows = rows_of("workload", page, blob.get("qo_indptr"), blob["kv_indptr"], blob["kv_indices"], ends)
        total += 1
        same += json.dumps(rows) in known
    print(f"{file.stem}: {same} of {total} workloads are steps of the scheduler's")
    wrong += same != total
    # How many entries of the index calls had, over all of them, sampled out or not.
    section = json.loads((trace / "collection.json").read_text())["captures"][0]["definitions"][file.stem]
    told = {entries: calls for entries, calls in section["distribution"]["axes"]["num_kv_indices"]["calls"]}
    steps_of = collections.Counter(sum(-(-r[1] // page) for r in rows) for rows in truth[kind] if rows)
    layers = section["calls"] // sum(steps_of.values())
    is_equal = told == {entries: layers * count for entries, count in steps_of.items()}
    print(f"    its {section['calls']} calls are {layers} of each step; index entries over all calls {'as' if is_equal else 'NOT as'} the scheduler's; "
          f"workloads stand for {sum(w['stands_for'] for w in section['workloads'])}")
    wrong += not is_equal
sys.exit(wrong != 0)
