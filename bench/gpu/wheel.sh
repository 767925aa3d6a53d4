#!/usr/bin/env bash
# On a machine with a GPU: the wheel, and nothing else of ours, records an engine as a build from source does.
#
#   wheel.sh KIT MODELS OUT STAGE...     KIT: the wheel, and from bench/gpu/prepare definitions, engines.sh and the probe; else as engines.sh
set -euo pipefail
kit=$(cd "$1" && pwd) models=$2 out=$3
shift 3
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
# The engine's packages are on PYTHONPATH; pip must not take them for its own.
env -u PYTHONPATH python3 -m venv "$environment"
env -u PYTHONPATH "$environment/bin/pip" install -q --no-index --disable-pip-version-check "$kit"/collect_workloads-*.whl
mkdir -p "$out"
{
  "$environment/bin/collect-workloads" --version
  ldd "$environment/bin/collect-workloads"
} > "$out/wheel.txt"
cp "$kit"/*.tar.gz "$environment/bin/"
cp -r "$kit/probe" "$environment/bin/"
"$kit/engines.sh" "$environment/bin" "$models" "$out" "$@"
