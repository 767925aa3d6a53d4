"""What the recorder costs, measured within one process: SGLang's scheduler runs some steps with it and some without, in turns
too short for the machine to change its speed in between. Every step is noted, a line of JSON each: when it was launched, of what
kind and how large its batch was, and whether the recorder was on. On PYTHONPATH, with SWITCH naming the file to append to.

Off is `pause`: every hook stays in its place and passes the call on. bench/recorder.py says what that alone takes.
"""
import importlib.util
import json
import os
import random
import sys
import time

SCHEDULER = "sglang.srt.managers.scheduler"
BLOCK = 4  # steps


class Switch:
    busy = False

    def find_spec(self, name, path=None, target=None):
        if name != SCHEDULER or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            watch(module.Scheduler)

        spec.loader.exec_module = exec_module
        return spec


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


if os.environ.get("SWITCH"):
    sys.meta_path.insert(0, Switch())
