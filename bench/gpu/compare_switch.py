#!/usr/bin/env python3
"""What the recorder costs a step, from what bench/gpu/switch noted.

usage: compare_switch.py NOTES.jsonl...

A step lasts until the next is launched. The first of each block is left out, because what the recorder copies and writes may
reach into it. A pair is two neighbouring blocks, one with the recorder and one without. Of the pairs in which every step is a
decode and the batches are as large within 5 %, it says how much longer a step takes; of all pairs, how many tokens a second
there were, with prefills and whatever else came between. An interval is what 95 of 100 drawings of as many pairs say."""
import json
import random
import statistics
import sys

BLOCK = 4
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
alike = [(on, off) for on, off in pairs if on[1] and off[1] and 0.95 < on[2] / off[2] < 1.05]
steps = BLOCK - 1
print(f"{len(alike)} pairs of {steps} decode steps: {1e3 * statistics.median(on[3] for on, _ in alike) / steps:.3f} ms a step recorded, "
      f"{1e3 * statistics.median(off[3] for _, off in alike) / steps:.3f} not; the pairs' ratios, not to recorded, median",
      interval(lambda some: statistics.median(off[3] / on[3] for on, off in some), alike))


def rate(some, side):
    return sum(pair[side][2] for pair in some) / sum(pair[side][3] for pair in some)


print(f"{len(pairs)} pairs of all kinds: {rate(pairs, 0):.0f} tok/s recorded, {rate(pairs, 1):.0f} not, ratio",
      interval(lambda some: rate(some, 0) / rate(some, 1), pairs))
