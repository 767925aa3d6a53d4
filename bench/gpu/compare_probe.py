#!/usr/bin/env python3
"""Compares a recording made under CUDA graphs with what SGLang's scheduler ran, as bench/gpu/probe/probe_truth.py noted it.

  compare_probe.py RECORDING.cbor PROBE.jsonl [ENGINE.log]      needs cbor2

Of every replayed decode plan whose index tensors were kept, lengths and page table must be the scheduler's, in the order in
which it ran them; what was sampled out must be there in number. Plans in graphs (engines.sh glue) have no values, and the
probe does not see them. With the engine's log, real batch sizes must be those of its
"Decode batch" lines (--decode-log-interval 1)."""
import hashlib
import json
import re
import sys

from recording import Recording, integers

recording = Recording(sys.argv[1])
recorded = []  # (real sequences, state, lengths, SHA-256 of the page table)
for function, group, _, found in recording.calls():
    if not function.endswith("Wrapper.plan") or group.get("dummy") or "sequences" not in group:
        continue  # only plans of graphs' batches carry the number of real sequences
    if group.get("replayed"):
        recorded += [(group["sequences"], "in a graph", [], None)] * group["count"]
        continue
    indptr = found.get("indptr") or found["kv_indptr"]
    indices = found.get("indices") or found["kv_indices"]
    kept = indices["state"] == "kept"
    table = integers(recording.values[indptr["hash"]]) if kept else []
    recorded += [(group["sequences"], indices["state"], [b - a for a, b in zip(table, table[1:])],
                  hashlib.sha256(recording.values[indices["hash"]]).hexdigest() if kept else None)] * group["count"]
probed = [json.loads(line) for line in open(sys.argv[2])]
planned = [item for item in recorded if item[1] != "in a graph"]
warm_up = len(probed) - len(planned)
probed = probed[warm_up:]  # the plans of the captures come first
assert len(probed) == len(planned), (len(probed), len(planned))
same = differ = sampled_out = 0
for (sequences, state, lengths, digest), truth in zip(planned, probed):
    if state != "kept":
        sampled_out += 1
    elif lengths == truth["lengths"] and digest == truth["sha256"]:
        same += 1
    else:
        differ += 1
print(f"{len(recorded)} decode steps replayed: {same} page tables equal the scheduler's, {sampled_out} sampled out, {differ} differ, "
      f"{len(recorded) - len(planned)} were planned in a graph; "
      f"{warm_up} plans of captures before them, recorded as no traffic")
if len(sys.argv) > 3:
    logged = [int(n) for n in re.findall(r"Decode batch.*?#running-req: (\d+)", open(sys.argv[3]).read())]
    real = [sequences for sequences, *_ in recorded]
    padded = sum(1 for sequences, state, lengths, _ in recorded if state == "kept" and len(lengths) > sequences)
    print(f"real batch sizes: {'equal' if real == logged else 'NOT equal'} to the {len(logged)} \"Decode batch\" lines of SGLang's log; "
          f"{padded} kept steps were padded")
sys.exit(differ != 0)
