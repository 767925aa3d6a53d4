#!/usr/bin/env bash
# On a machine with a GPU, SGLang 0.5.17, FlashInfer 0.6.15.post1 and flashinfer-bench 0.1.2: verifies collected datasets on
# the GPU with a reference for each definition, then dumps a short run of SGLang with its wrappers' constructors, makes a
# dataset of it, merges all, and verifies the whole, with flashinfer replay over the dumps.
#
#   verify.sh TOOL_FOLDER MODELS OUT DATASET.tar.xz...    TOOL_FOLDER as bench/gpu/prepare makes it, with references.py;
#                                                         archives of workloads, blob and collection.json
set -uo pipefail
tool=$(cd "$1" && pwd) models=$2 out=$(mkdir -p "$3" && cd "$3" && pwd); shift 3
work=$(mktemp -d)
export XDG_STATE_HOME=$work/state
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu.txt"
new_trace() { mkdir -p "$1" && tar xzf "$tool/definitions.tar.gz" -C "$1" && python3 "$tool/references.py" "$1"; }

for archive in "$@"; do
  name=$(basename "$archive" .tar.xz)
  new_trace "$work/$name" > /dev/null && tar xJf "$archive" -C "$work/$name"
  { echo "\$ collect-workloads verify --trace-dir $name"
    time timeout 240 "$tool/collect-workloads" verify --trace-dir "$work/$name" --python python3
    echo "exit status $?"; } > "$out/$name.verify.txt" 2>&1
  cp "$work/$name/verification.json" "$out/$name.verification.json"
  tail -n 25 "$work/state/collect-workloads/verify.log" > "$out/verify.log" 2>/dev/null
done

# Constructors too, so that wrappers can be made again; a small pool, because every call dumps it.
new_trace "$work/replayed" > /dev/null
mkdir -p "$work/dumps"
port=$((31000 + RANDOM % 1000))
(cd "$work" && FLASHINFER_LOGLEVEL=10 FLASHINFER_DUMP_DIR=$work/dumps FLASHINFER_DUMP_SAFETENSORS=1 \
  FLASHINFER_DUMP_INCLUDE='*BatchDecodeWithPagedKVCacheWrapper.*,*BatchPrefillWithRaggedKVCacheWrapper.*,*rmsnorm*,*sampling*' \
  exec setsid python3 -m sglang.launch_server --model-path "$models/llama-3.1-8b-short" --load-format dummy --host 127.0.0.1 \
  --port $port --attention-backend flashinfer --sampling-backend flashinfer --disable-cuda-graph --disable-radix-cache \
  --cuda-graph-backend-prefill disabled --max-total-tokens 2048 --mem-fraction-static 0.25) > "$out/engine.log" 2>&1 &
engine=$!
for i in $(seq 240); do curl -sf "http://127.0.0.1:$port/health" > /dev/null && break; kill -0 $engine 2> /dev/null || break; sleep 1; done
{ timeout 120 "$tool/collect-workloads" drive --url "http://127.0.0.1:$port" --random-prompts --input-tokens 64 --output-tokens 3 \
    --num-prompts 4 --concurrency 4
  kill -TERM -- -$engine; for i in $(seq 60); do kill -0 -- -$engine 2> /dev/null || break; sleep 0.5; done
  kill -KILL -- -$engine 2> /dev/null
  du -sh "$work/dumps"; ls "$work/dumps" | wc -l
  timeout 120 "$tool/collect-workloads" sanitize --input "$work/dumps" --trace-dir "$work/replayed"
  (time FLASHINFER_LOGLEVEL=1 FLASHINFER_LOGDEST="$out/replay.log" timeout 200 python3 -m flashinfer replay --dir "$work/dumps") > "$out/replay.txt" 2>&1
  # All of it as one dataset, verified and replayed: what a pull request would be made from.
  datasets=("$work/replayed"); for archive in "$@"; do datasets+=("$work/$(basename "$archive" .tar.xz)"); done
  "$tool/collect-workloads" merge "${datasets[@]}" --out "$work/merged" -q
  time timeout 300 "$tool/collect-workloads" verify --trace-dir "$work/merged" --python python3 --dumps "$work/dumps"
  echo "exit status $?"; } > "$out/merged.verify.txt" 2>&1
(cd "$work/merged" && tar cJf "$out/merged.tar.xz" definitions workloads blob collection.json verification.json)
tail -n 40 "$work/state/collect-workloads/verify.log" >> "$out/verify.log" 2>/dev/null
tail -n 30 "$out"/*.verify.txt; tail -n 5 "$out/replay.txt"
cd / && rm -rf "$work"
