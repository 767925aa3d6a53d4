#!/usr/bin/env python3
"""Compares the workloads that two captures of the same run gave: axes, every input, and how often each was called.

  compare_workloads.py DATASET DATASET      folders with workloads/, blob/ and collection.json

Scalars are compared to 12 digits: what is observed in one and derived in the other may differ in the last bit. Exits with 1
when they differ."""
import collections
import json
import os
import pathlib
import sys

os.environ.setdefault("COLLECT_WORKLOADS", "unused")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/integration"))
from support import tensor, workloads  # noqa: E402


def content(dataset, spec):
    if spec["type"] == "safetensors":
        return tuple(tensor(dataset, spec))
    return f"{spec['value']:.12g}" if isinstance(spec.get("value"), float) else json.dumps(spec, sort_keys=True)


def contents(dataset):
    """{(definition, axes, inputs): calls}."""
    collection = json.loads((dataset / "collection.json").read_text())
    calls = {w["uuid"]: w["seen"] for capture in collection["captures"] for d in capture["definitions"].values() for w in d.get("workloads", [])}
    found = collections.Counter()
    for definition, stored in workloads(dataset).items():
        for workload in stored:
            inputs = [(name, content(dataset, spec)) for name, spec in sorted(workload["inputs"].items())]
            found[definition, tuple(sorted(workload["axes"].items())), tuple(inputs)] += calls[workload["uuid"]]
    return found


left, right = (contents(pathlib.Path(folder)) for folder in sys.argv[1:3])
same = [key for key in left if left[key] == right.get(key)]
print(f"{len(left)} and {len(right)} distinct workloads; {len(same)} are the same in axes, inputs and calls ({sum(left[key] for key in same)})")
for name, of, other in ((sys.argv[1], left, right), (sys.argv[2], right, left)):
    for definition, count in collections.Counter(key[0] for key in of if of[key] != other.get(key)).items():
        print(f"  only in {name}, or with other counts: {count} of {definition}")
sys.exit(left != right)
