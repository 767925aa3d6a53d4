#!/usr/bin/env python3
"""What a client costs: ours (drive) beside SGLang's own (sglang.bench_serving), the same prompts in turns to one fixed fast
server, the simulated engine without dumps. Of ours the whole process is counted; of bench_serving only its benchmark(), without
imports and data set. The server's steps take 10 ms, as an H200's with an 8B model, and 1 ms, which bench_serving cannot
follow (it reads the tokens of many steps at once). Then a thousand streams at a time through ours on one core.

usage: clients.py TOOL PYTHON TOKENIZER PROMPTS.json
  TOOL       the collect-workloads binary
  PYTHON     one with sglang's bench_serving (it imports torch 2)
  TOKENIZER  a folder with config.json and a tokenizer, for bench_serving
  PROMPTS    from bench/sharegpt_subset.py, 1,000 of them
"""
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

TOOL, PYTHON, TOKENIZER, PROMPTS = sys.argv[1:5]
COUNT, TOKENS, CONCURRENCY, ROUNDS = 1000, 64, 64, 3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# Server and client have a core each.
SERVER_CORE, *_, CLIENT_CORE = map(str, sorted(os.sched_getaffinity(0)))


class Server:
    def __init__(self, *flags):
        self.port = free_port()
        command = [TOOL, "serve", "--model-name", "llama-3.1-8b", "--port", str(self.port), "--max-total-tokens", "4000000", "-q", *flags]
        self.process = subprocess.Popen(["taskset", "-c", SERVER_CORE] + command, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def cpu_of(command, environment=None):
    """Seconds of CPU and of wall time, and what it printed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run(["taskset", "-c", CLIENT_CORE] + command, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.time() - begin, done.stdout


def ours(port, count, *flags):
    return [TOOL, "drive", "--url", f"http://127.0.0.1:{port}", "--prompts", PROMPTS, "--num-prompts", str(count), "--output-tokens",
            str(TOKENS), "--concurrency", str(CONCURRENCY), "--json", "-q", *flags]


# bench_serving with a clock around the part that sends and receives.
TIMED = """
import sys, time
import sglang.benchmark.serving as serving
inner = serving.benchmark
async def timed(*args, **kwargs):
    begin = time.process_time()
    try:
        return await inner(*args, **kwargs)
    finally:
        print("CPU", time.process_time() - begin)
serving.benchmark = timed
serving.cli_main()
"""


def theirs(port, count):
    return [PYTHON, "-c", TIMED, "--backend", "sglang", "--host", "127.0.0.1", "--port", str(port), "--model", TOKENIZER, "--tokenizer",
            TOKENIZER, "--dataset-name", "sharegpt", "--dataset-path", PROMPTS, "--num-prompts", str(count), "--sharegpt-output-len",
            str(TOKENS), "--max-concurrency", str(CONCURRENCY), "--disable-tqdm", "--warmup-requests", "0", "--output-file", "/dev/null"]


def measure_ours(port):
    cpu, _, said = cpu_of(ours(port, COUNT))
    report = json.loads(said)
    assert report["completed"] == COUNT and report["failed"] == 0, said
    return cpu / COUNT * 1e3, report["seconds"]


def measure_theirs(port):
    said = cpu_of(theirs(port, COUNT), dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1"))[2]
    words = {line.split(":")[0].strip(): line.split()[-1] for line in said.splitlines() if line.strip()}
    assert int(words["Successful requests"]) == COUNT, said
    cpu = next(float(line.split()[1]) for line in said.splitlines() if line.startswith("CPU "))
    return cpu / COUNT * 1e3, float(words["Benchmark duration (s)"])


def main():
    for step in ("10", "1"):
        with Server("--decode-step-ms", step, "--prefill-token-us", "1") as server:
            ratios = []
            for i in range(ROUNDS):
                (a, a_wall), (b, b_wall) = measure_ours(server.port), measure_theirs(server.port)
                ratios.append(b / a)
                print(f"steps of {step} ms, round {i + 1}: CPU a request of {TOKENS} tokens: ours {a:.3f} ms (run of {a_wall:.1f} s), "
                      f"bench_serving {b:.3f} ms ({b_wall:.1f} s): {b / a:.1f} times", flush=True)
            print(f"steps of {step} ms, median: {statistics.median(ratios):.1f} times", flush=True)
    with Server("--decode-step-ms", "20", "--prefill-token-us", "1", "--max-running-requests", "1000") as server:
        command = ours(server.port, 1000)
        command[command.index("--concurrency") + 1] = "1000"
        command[command.index("--output-tokens") + 1] = "256"
        cpu, wall, said = cpu_of(command)
        report = json.loads(said)
        print(f"1,000 streams at a time on one core: {report['completed']} completed, {report['failed']} failed, {report['output_tokens']} tokens in "
              f"{report['seconds']:.1f} s; the client used {cpu:.2f} s of CPU ({100 * cpu / wall:.0f} % of its core), "
              f"{1e6 * cpu / report['output_tokens']:.1f} us a token; between tokens {1e3 * report['time_per_output_token_s']['p50']:.1f} ms "
              f"(p99 {1e3 * report['time_per_output_token_s']['p99']:.1f}), the server's step is 20 ms")


main()
