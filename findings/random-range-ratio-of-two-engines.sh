#!/usr/bin/env bash
# `--random-range-ratio` of SGLang's and of vLLM's serving benchmark mean nearly the opposite, and defaults are the same 0.0.
#
# Where it is met: a comparison of two engines gives both clients, which descend from one file and share most flags, the same
# words: --random-input-len 1000 --random-range-ratio R. SGLang takes R as the shortest length's part of the longest one, which is
# the given length: 1 makes all requests equally long, and the default 0 spreads them from 1 to 1,000 (mean 500). vLLM takes the
# given length as the mean and R as how far to go on either side: the default 0 makes all equally long, and 1 is refused. So with
# defaults and the same words SGLang gets half as many input tokens as vLLM, and requests of very different lengths; with 0.5 the
# means are 750 and 1,000.
#
# Seen: SGLang 0.5.23 (sglang/benchmark/datasets/common.py), vLLM 0.33.0 (vllm/benchmarks/datasets/utils.py), Python 3.11. These
# two files of the wheels run as they are, with a stand-in for the module that vLLM's imports a type from. This fails when either
# changes what R means.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q numpy==2.3.5
"$work/venv/bin/pip" download -q --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_34_x86_64 -d "$work" sglang==0.5.23
"$work/venv/bin/pip" download -q --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d "$work" vllm==0.33.0

cd "$work"
"$work/venv/bin/python" - << 'PY'
import glob, importlib.util, sys, types, zipfile

import numpy as np


def module(wheel, path, name):
    (file,) = glob.glob(wheel)
    with open(name + ".py", "wb") as out:
        out.write(zipfile.ZipFile(file).read(path))
    spec = importlib.util.spec_from_file_location(name, name + ".py")
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


sys.modules["vllm"] = types.ModuleType("vllm")
sys.modules["vllm.tokenizers"] = types.SimpleNamespace(TokenizerLike=object)
sglang = module("sglang-*.whl", "sglang/benchmark/datasets/common.py", "sglang_common")
vllm = module("vllm-*.whl", "vllm/benchmarks/datasets/utils.py", "vllm_utils")
tokenizer = types.SimpleNamespace(num_special_tokens_to_add=lambda: 0, vocab_size=1000)


def lengths_of_vllm(ratio):
    return vllm.get_sampling_params(np.random.default_rng(1), 20000, ratio, 1000, 100, tokenizer)[0]


def described(lengths):
    return f"{min(lengths)} to {max(lengths)}, mean {np.mean(lengths):.0f}"


np.random.seed(1)
seen = {}
for ratio in (0.0, 0.5, 1.0):
    seen["SGLang", ratio] = sglang.compute_random_lens(1000, ratio, 20000)
    try:
        seen["vLLM", ratio] = lengths_of_vllm(ratio)
    except ValueError as error:
        seen["vLLM", ratio] = None
        print(f"  {ratio}: vLLM refuses: {error}")
    for engine in ("SGLang", "vLLM"):
        if seen[engine, ratio] is not None:
            print(f"  {ratio}: {engine} draws lengths from {described(seen[engine, ratio])}")

assert min(seen["SGLang", 0.0]) < 10 and abs(np.mean(seen["SGLang", 0.0]) - 500) < 10
assert set(seen["vLLM", 0.0]) == {1000}
assert abs(np.mean(seen["SGLang", 0.5]) - 750) < 10 and abs(np.mean(seen["vLLM", 0.5]) - 1000) < 10
assert set(seen["SGLang", 1.0]) == {1000} and seen["vLLM", 1.0] is None
print("as described")
PY
