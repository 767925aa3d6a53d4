#!/usr/bin/env bash
# Our client beside SGLang's own (sglang.bench_serving): the same prompts, lengths and concurrency, in turns, against
# one server in its production settings (CUDA graphs on, no capture).
#
#   clients.sh TOOL_FOLDER MODEL_FOLDER PROMPTS.json OUT
#
# PROMPTS.json is a ShareGPT array of whole conversations, of which both clients use every one.
set -uo pipefail
tool=$(cd "$1" && pwd) model=$2 prompts=$(realpath "$3") out=$(mkdir -p "$4" && cd "$4" && pwd)
port=31000 tokens=64 concurrency=32
count=$(python3 -c "import json,sys; print(len(json.load(open(sys.argv[1]))))" "$prompts")
cd "$out"
setsid python3 -m sglang.launch_server --model-path "$model" --load-format dummy --port $port --attention-backend flashinfer \
  --disable-radix-cache --mem-fraction-static 0.5 > "$out/server.log" 2>&1 < /dev/null &
server=$!
trap 'kill -TERM -- -$server; sleep 5; kill -KILL -- -$server 2>/dev/null' EXIT
for i in $(seq 200); do curl -sf http://127.0.0.1:$port/health > /dev/null && break; sleep 1; done
ours() { "$tool/collect-workloads" drive --url http://127.0.0.1:$port --prompts "$prompts" --num-prompts "$count" \
  --concurrency $concurrency --output-tokens $tokens --temperature 0 --json -q; }
theirs() { python3 -m sglang.bench_serving --backend sglang --host 127.0.0.1 --port $port --model "$model" --dataset-name sharegpt \
  --dataset-path "$prompts" --num-prompts "$count" --sharegpt-output-len $tokens --max-concurrency $concurrency --disable-tqdm \
  --warmup-requests 0 --output-file "$out/theirs.jsonl"; }
ours > /dev/null  # warms
for i in 1 2 3; do
  ours > "$out/ours-$i.json" 2> "$out/ours-$i.err"
  theirs > "$out/theirs-$i.txt" 2>&1
done
python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
print("client        tok/s   mean TTFT ms   mean TPOT ms   requests")
for i in (1, 2, 3):
    o = json.load(open(f"{out}/ours-{i}.json"))
    print(f"ours     {o['output_tokens_per_second']:10.0f} {1e3*o['time_to_first_token_s']['mean']:14.1f} {1e3*o['time_per_output_token_s']['mean']:14.2f} {o['completed']:10d}")
for line in open(f"{out}/theirs.jsonl"):
    t = json.loads(line)
    print(f"theirs   {t['output_throughput']:10.0f} {t['mean_ttft_ms']:14.1f} {t['mean_tpot_ms']:14.2f} {t['completed']:10d}")
PY
