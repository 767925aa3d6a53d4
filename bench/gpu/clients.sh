#!/usr/bin/env bash
# Our client beside SGLang's own (sglang.bench_serving): the same prompts, lengths and concurrency, in turns, against
# one server in its production settings (CUDA graphs on, no capture).
#
#   clients.sh TOOL_FOLDER MODEL_FOLDER PROMPTS.json OUT
#
# PROMPTS.json is a ShareGPT array of whole conversations, of which both clients use every one.
set -uo pipefail
tool=$(cd "$1" && pwd) model=$2 prompts=$(realpath "$3") out=$(mkdir -p "$4" && cd "$4" && pwd)
port=31000 tokens=64 concurrency=32 rate=20
count=$(python3 -c "import json,sys; print(len(json.load(open(sys.argv[1]))))" "$prompts")
cd "$out"
setsid python3 -m sglang.launch_server --model-path "$model" --load-format dummy --port $port --attention-backend flashinfer \
  --disable-radix-cache --mem-fraction-static 0.5 > "$out/server.log" 2>&1 < /dev/null &
server=$!
trap 'kill -TERM -- -$server; sleep 5; kill -KILL -- -$server 2>/dev/null' EXIT
for i in $(seq 200); do curl -sf http://127.0.0.1:$port/health > /dev/null && break; sleep 1; done
ours() { "$tool/collect-workloads" drive --url http://127.0.0.1:$port --prompts "$prompts" --num-prompts "$count" \
  --output-tokens $tokens --temperature 0 --json -q "$@"; }
theirs() { python3 -m sglang.bench_serving --backend sglang --host 127.0.0.1 --port $port --model "$model" --dataset-name sharegpt \
  --dataset-path "$prompts" --num-prompts "$count" --sharegpt-output-len $tokens --disable-tqdm --warmup-requests 0 "$@"; }
ours --concurrency 8 > /dev/null  # warms
# Closed loop, and Poisson arrivals. In a closed loop with answers of one length the requests move in step, and how
# fast a client sends the next decides how prefills batch: throughput compares, latencies belong together.
for i in 1 2 3; do
  ours --concurrency $concurrency > "$out/ours-closed-$i.json" 2> "$out/ours.err"
  theirs --max-concurrency $concurrency --output-file "$out/theirs-closed.jsonl" > "$out/theirs.txt" 2>&1
  ours --request-rate $rate --seed $i > "$out/ours-poisson-$i.json" 2> "$out/ours.err"
  theirs --request-rate $rate --seed $i --output-file "$out/theirs-poisson.jsonl" > "$out/theirs.txt" 2>&1
done
python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
print("schedule client        tok/s   mean TTFT ms   mean TPOT ms   requests")
for schedule in ("closed", "poisson"):
    for i in (1, 2, 3):
        o = json.load(open(f"{out}/ours-{schedule}-{i}.json"))
        print(f"{schedule:8} ours     {o['output_tokens_per_second']:10.0f} {1e3*o['time_to_first_token_s']['mean']:14.1f} {1e3*o['time_per_output_token_s']['mean']:14.2f} {o['completed']:10d}")
    for line in open(f"{out}/theirs-{schedule}.jsonl"):
        t = json.loads(line)
        print(f"{schedule:8} theirs   {t['output_throughput']:10.0f} {t['mean_ttft_ms']:14.1f} {t['mean_tpot_ms']:14.2f} {t['completed']:10d}")
PY
