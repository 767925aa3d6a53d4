#!/usr/bin/env python3
"""Stands in for the Python of an environment with SGLang and vLLM in it: answers what collect asks of one, and serves
the simulated engine where a real one would start. What it was asked is written to $ENGINE_PYTHON_LOG."""
import json
import os
import sys
import threading
import urllib.request

KNOWN = """usage: launch_server.py [-h] --model-path MODEL_PATH [--host HOST] [--port PORT] [--tp-size N] [--attention-backend B]
  [--sampling-backend B] [--disable-cuda-graph] [--disable-piecewise-cuda-graph] [--disable-radix-cache]
  [--tensor-parallel-size N] [--enforce-eager] [--block-size N] [--disable-prefix-caching] [--max-total-tokens N]"""


def value(words, *names, otherwise=None):
    for name in names:
        if name in words:
            return words[words.index(name) + 1]
        for word in words:
            if word.startswith(name + "="):
                return word.partition("=")[2]
    return otherwise


def serve(words):
    unknown = [w for w in words if w.startswith("--") and w not in KNOWN]
    if unknown:
        sys.exit(f"launch_server.py: error: unrecognized arguments: {' '.join(unknown)}")
    model = words[1] if words[0] == "serve" else value(words, "--model-path")  # vLLM's, and SGLang's
    command = [os.environ["COLLECT_WORKLOADS"], "serve", "--model-name", model, "--host", value(words, "--host"),
               "--port", value(words, "--port"), "--tp", value(words, "--tp-size", "--tensor-parallel-size", otherwise="1"),
               "--max-total-tokens", value(words, "--max-total-tokens", otherwise="16384")]
    if "--disable-radix-cache" in words:
        command.append("--disable-radix-cache")
    os.execv(command[0], command)


def bench_serving(words):
    """Sends as many requests as it is told to, eight at a time; fails when told to."""
    if os.environ.get("BENCH_SERVING_FAILS"):
        sys.exit("ModuleNotFoundError: No module named 'aiohttp'")
    url = f"http://{value(words, '--host')}:{value(words, '--port')}/generate"
    body = json.dumps({"text": "a prompt of some length " * 8, "sampling_params": {"max_new_tokens": 8}}).encode()
    left = iter(range(int(value(words, "--num-prompts"))))

    def work():
        for _ in left:
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()

    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]


def main(words):
    if "ENGINE_PYTHON_LOG" in os.environ:
        with open(os.environ["ENGINE_PYTHON_LOG"], "a") as log:
            log.write(json.dumps(words) + "\n")
    if words[0] == "-c" and "find_spec" in words[1]:  # which of the clients there is
        return print(os.environ.get("BENCH_MODULE", "sglang.bench_serving"))
    if words[0] == "-c":
        return print("vLLM 0.33.0 FlashInfer 0.7.2.post1" if "vllm" in words[1] else
                     "" if "sharegpt" in words[1] else "SGLang 0.5.17 FlashInfer 0.6.15.post1")
    module, rest = words[1], words[2:]
    if module == "pip":
        return None
    if any(word.startswith("--help") for word in rest):
        return print(KNOWN)
    if module in ("sglang.bench_serving", "sglang.benchmark.serving") or rest[:2] == ["bench", "serve"]:
        return bench_serving(rest)
    return serve(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
