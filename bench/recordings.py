#!/usr/bin/env python3
"""Time, processor and memory that `sanitize` takes for recordings, in turns with another build and with the floor.

  bench/recordings.py FOLDER [--before BINARY [--recorder BINARY]] [--rounds N] [--threads N...] [--cbor2] [--watch]

FOLDER is where recordings are made, by the real recorder under a loop, unless they are there: `long` is a few long files,
`short` many short ones, `exact` has index tensors of the length in use. The build is build/release, with CW_BENCH=ON.
--recorder is the bench_make_recordings of a commit whose recordings both read: builds before format 2 read format 1 only.
--cbor2 decodes the same frames with PyPI's cbor2 once. --watch measures `watch` instead, beside the recorder at 100,000
calls a second for 20 seconds.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

here = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--before", type=pathlib.Path)
parser.add_argument("--recorder", type=pathlib.Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
parser.add_argument("--kinds", nargs="+", default=["long", "short", "exact"])
parser.add_argument("--cbor2", action="store_true")
parser.add_argument("--watch", action="store_true")
arguments = parser.parse_args()
build = here / "build/release"
recorder = arguments.recorder or build / "bench_make_recordings"

CALLS_A_STEP = 97  # of bench_make_recordings

# KIND: index tensors, processes, steps of each
KINDS = {"long": ("buffers", 4, 60_000), "short": ("buffers", 500, 120), "exact": ("exact", 4, 60_000)}


def make(kind):
    folder = arguments.folder / kind
    if folder.exists(): return folder
    folder.mkdir(parents=True)
    tensors, processes, steps = KINDS[kind]
    subprocess.run([recorder, folder, tensors, str(processes), str(steps)], check=True)
    return folder


def run(command):
    """Seconds, processor seconds and peak memory in MB."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0: sys.exit(f"{command}: {error.decode()}")
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def new_trace(scratch):
    os.mkdir(f"{scratch}/trace")
    with tarfile.open(here / "tests/data/definitions.tar.gz") as archive: archive.extractall(f"{scratch}/trace")


def watch(binary):
    """While the recorder writes."""
    rate, seconds = 100_000, 20
    with tempfile.TemporaryDirectory() as scratch:
        new_trace(scratch)
        os.mkdir(f"{scratch}/recording")
        steps = rate * seconds // CALLS_A_STEP
        writing = subprocess.Popen([recorder, f"{scratch}/recording", "buffers", "1", str(steps), str(rate)])
        try:
            return run([binary, "watch", "--input", f"{scratch}/recording", "--trace-dir", f"{scratch}/trace", "--until-idle", "2", "-q"])
        finally:
            if writing.wait() != 0: sys.exit("the recorder failed")


def sanitize(binary, folder, threads):
    with tempfile.TemporaryDirectory() as scratch:
        new_trace(scratch)
        return run([binary, "sanitize", "--input", folder, "--trace-dir", f"{scratch}/trace", "--threads", str(threads), "-q"])


def in_turns(contestants):
    """Name -> what each of its runs returned."""
    runs = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, contestant in contestants.items(): runs[name].append(contestant())
    return runs


def show(name, runs):
    seconds, processor, memory = (statistics.median(column) for column in zip(*runs))
    print(f"  {name:<22} {seconds:8.2f} s {processor:8.2f} s of processor {memory:6.0f} MB   {' '.join(f'{r[0]:.2f}' for r in runs)}", flush=True)
    return seconds


builds = {"now": build / "collect-workloads"}
if arguments.before: builds["before"] = arguments.before

if arguments.watch:
    runs = in_turns({name: lambda binary=binary: watch(binary) for name, binary in builds.items()})
    for name, made in runs.items():
        show(f"watch, {name}", made)
        print("    of processor: " + " ".join(f"{r[1]:.2f}" for r in made), flush=True)
    sys.exit()

for kind in arguments.kinds:
    folder = make(kind)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{kind}: {size / 1e6:.0f} MB in {len(list(folder.iterdir()))} files", flush=True)
    for threads in arguments.threads:
        contestants = {"floor": lambda: run([build / "bench_recording_floor", folder, str(threads)])}
        for name, binary in builds.items(): contestants[name] = lambda binary=binary: sanitize(binary, folder, threads)
        runs = in_turns(contestants)
        medians = {name: show(f"{name}, {threads} threads", made) for name, made in runs.items()}
        ratio = f", {medians['before'] / medians['now']:.1f} times as fast as before" if arguments.before else ""
        print(f"  {medians['floor'] / medians['now']:.3f} of the floor{ratio}", flush=True)
    if arguments.cbor2:
        script = ("import cbor2, pathlib, sys\n"
                  "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
                  "    with open(path, 'rb') as file:\n"
                  "        while file.peek(1): cbor2.loads(cbor2.load(file)[1].value)\n")
        show("cbor2", [run([sys.executable, "-c", script, folder])])
