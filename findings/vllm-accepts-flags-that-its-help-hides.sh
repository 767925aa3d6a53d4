#!/usr/bin/env bash
# vLLM 0.33.0 accepts flags that none of its help pages shows, `--help=all` included: the negative form that argparse makes of
# `--enable-x`.
#
# Where it is met: a program that starts an engine in several versions asks the installed one for its flags (`serve --help=all`)
# and leaves out what it does not know. `--no-enable-prefix-caching`, the documented way to switch prefix caching off until then,
# is not in the list any more, so such a program starts vLLM with prefix caching on, and no error says so. The parser registers an
# action of its own for every BooleanOptionalAction: `--enable-x` gets a `--disable-x` beside `--no-enable-x`, and before help is
# formatted the action's option strings are replaced by the two that are to be seen; what is parsed is looked up elsewhere and
# still has all three.
#
# Seen: vLLM 0.33.0, `vllm/utils/argparse_utils.py`, Python 3.11: help has --enable-… and --disable-…; all three parse, the
# hidden one to False. This fails where help and parser agree. Only that file of the wheel is used, with a logger in place of
# vLLM's, whose package would load PyTorch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q regex==2026.11.19 pyyaml==6.0.4
"$work/venv/bin/pip" download -q --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 -d "$work" vllm==0.33.0

cd "$work"
mkdir -p vllm && touch vllm/__init__.py
printf 'import logging\ninit_logger = logging.getLogger\n' > vllm/logger.py
"$work/venv/bin/python" - << 'PY'
import argparse, glob, importlib.util, sys, zipfile
sys.path.insert(0, ".")
(wheel,) = glob.glob("vllm-0.33.0*.whl")
source = zipfile.ZipFile(wheel).read("vllm/utils/argparse_utils.py")
open("argparse_utils.py", "wb").write(source)
spec = importlib.util.spec_from_file_location("argparse_utils", "argparse_utils.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

parser = module.FlexibleArgumentParser(prog="serve")
parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=None)
page = parser.format_help()
shown = [flag for flag in ("--enable-prefix-caching", "--disable-prefix-caching", "--no-enable-prefix-caching") if flag in page]
print("help shows", shown)
for flag in ("--enable-prefix-caching", "--disable-prefix-caching", "--no-enable-prefix-caching"):
    print(flag, "parses to", parser.parse_args([flag]).enable_prefix_caching)
assert shown == ["--enable-prefix-caching", "--disable-prefix-caching"], shown
assert parser.parse_args(["--no-enable-prefix-caching"]).enable_prefix_caching is False
PY
