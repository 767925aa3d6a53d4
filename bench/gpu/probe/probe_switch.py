"""What the recorder costs, measured within one process: SGLang's scheduler runs some steps with it and some without, in turns
too short for the machine to change its speed in between. Every step is noted, a line of JSON each: when it was launched, of what
kind and how large its batch was, and whether the recorder was on. SWITCH names the file to append to.

Off is `pause`: every hook stays in its place and passes the call on. bench/recorder.py says what that alone takes.
"""
import json
import os
import random
import sys
import time

BLOCK = 4  # steps


def watch(scheduler):
    original = scheduler.run_batch
    chance = random.Random(1)
    steps, notes = 0, []
    is_on = True

    def run_batch(self, batch, *args, **kwargs):
        nonlocal steps, is_on
        if steps % BLOCK == 0:  # pairs of blocks, each pair in an order of its own
            is_on = not is_on if steps // BLOCK % 2 else chance.random() < 0.5
            native = sys.modules.get("_collect_workloads_recorder")
            if native is not None:
                native.pause(not is_on)
        steps += 1
        notes.append((time.perf_counter(), batch.forward_mode.name, batch.batch_size(), is_on))
        if len(notes) == 1024:
            with open(f"{os.environ['SWITCH']}.{os.getpid()}.jsonl", "a", encoding="utf-8") as out:
                out.writelines(json.dumps(note) + "\n" for note in notes)
            notes.clear()
        return original(self, batch, *args, **kwargs)

    scheduler.run_batch = run_batch


MODULES = {"sglang.srt.managers.scheduler": lambda module: watch(module.Scheduler)}
