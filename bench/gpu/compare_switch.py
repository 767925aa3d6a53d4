#!/usr/bin/env python3
"""What the recorder costs a step, from what bench/gpu/probe/probe_switch.py noted.

usage: compare_switch.py NOTES.jsonl...

A step lasts until the next is launched. The first of each block is left out, because what the recorder copies and writes may
reach into it. A pair is two neighbouring blocks, one with the recorder and one without. Of the pairs in which every step is a
decode and the batches are as large within 5 %, it says how much longer a step takes; of all pairs, how many tokens a second
there were, with prefills and whatever else came between. The median of the pairs' ratios is what the machine's changes of
speed touch least. An interval is what 95 of 100 drawings of as many pairs say."""
import json
import random
import statistics
import sys

from probe.probe_switch import BLOCK

IDLE = 0.3  # seconds: the server had nothing to do


def blocks(path):
    """Of each block that was never idle: is it recorded, is it all decode, tokens, seconds. A step gives a token a sequence."""
    notes = [json.loads(line) for line in open(path, encoding="utf-8")]
    for start in range(0, len(notes) - BLOCK, BLOCK):
        steps = range(start + 1, start + BLOCK)
        seconds = [notes[i + 1][0] - notes[i][0] for i in steps]
        if max(seconds) < IDLE:
            yield start // BLOCK, (notes[start][3], {notes[i][1] for i in steps} == {"DECODE"}, sum(notes[i][2] for i in steps), sum(seconds))


def interval(estimate, pairs):
    chance = random.Random(1)
    drawn = sorted(estimate(chance.choices(pairs, k=len(pairs))) for _ in range(1000))
    return f"{estimate(pairs):.4f} (95 %: {drawn[25]:.4f} to {drawn[974]:.4f})"


pairs = []  # (recorded, not)
for path in sys.argv[1:]:
    found = dict(blocks(path))
    for number, first in found.items():
        second = found.get(number + 1)
        if number % 2 == 0 and second is not None and first[0] != second[0]:
            pairs.append((first, second) if first[0] else (second, first))
if not pairs:
    sys.exit("no two neighbouring blocks that were never idle")
alike = [(on, off) for on, off in pairs if on[1] and off[1] and 0.95 < on[2] / off[2] < 1.05]
steps = BLOCK - 1
if alike:
    on, off = (1e3 * statistics.median(pair[side][3] for pair in alike) / steps for side in (0, 1))
    print(f"{len(alike)} pairs of {steps} decode steps: median {on:.3f} ms a step recorded, {off:.3f} not, ratio {off / on:.4f}\n"
          f"  median of the pairs' ratios {interval(lambda some: statistics.median(off[3] / on[3] for on, off in some), alike)}\n"
          f"  ratio of their times {interval(lambda some: sum(off[3] for _, off in some) / sum(on[3] for on, _ in some), alike)}")


def rates(some, side):
    return [pair[side][2] / pair[side][3] for pair in some]


def total(some, side):
    return sum(pair[side][2] for pair in some) / sum(pair[side][3] for pair in some)


def paired(some):
    return statistics.median(a / b for a, b in zip(rates(some, 0), rates(some, 1)))


on, off = (statistics.median(rates(pairs, side)) for side in (0, 1))
print(f"{len(pairs)} pairs of all kinds: median {on:.0f} tok/s recorded, {off:.0f} not, ratio {on / off:.4f}\n"
      f"  median of the pairs' ratios {interval(paired, pairs)}\n"
      f"  ratio of all tokens to all time {interval(lambda some: total(some, 0) / total(some, 1), pairs)}")
