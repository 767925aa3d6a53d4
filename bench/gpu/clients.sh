#!/usr/bin/env bash
# Our client beside SGLang's own (sglang.bench_serving): the same prompts, lengths and concurrency, in turns, against
# one server in its production settings (CUDA graphs on, no capture).
#
#   clients.sh TOOL_FOLDER MODEL_FOLDER PROMPTS.json OUT
#
# PROMPTS.json is a ShareGPT array of whole conversations, of which both clients use every one (bench/sharegpt_subset.py).
# The model's vocabulary is cut to the tokenizer's: with random weights, most tokens of the whole one have no text, and
# bench_serving takes the first token with text for the first.
set -uo pipefail
tool=$(cd "$1" && pwd) model=$2 prompts=$(realpath "$3") out=$(mkdir -p "$4" && cd "$4" && pwd)
port=31000 tokens=64 concurrency=32 rate=20
count=$(python3 -c "import json,sys; print(len(json.load(open(sys.argv[1]))))" "$prompts")
mkdir -p /tmp/clients-model && cp "$model"/* /tmp/clients-model/ && model=/tmp/clients-model
python3 - "$model" <<'PY'
import json, sys
config, words = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("config", "tokenizer"))
config["vocab_size"] = len(words["model"]["vocab"])
json.dump(config, open(f"{sys.argv[1]}/config.json", "w"))
PY
cd "$out"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
setsid python3 -m sglang.launch_server --model-path "$model" --load-format dummy --port $port --attention-backend flashinfer \
  --disable-radix-cache --mem-fraction-static 0.5 > "$out/server.log" 2>&1 < /dev/null &
server=$!
trap 'kill -TERM -- -$server; sleep 5; kill -KILL -- -$server 2>/dev/null' EXIT
for i in $(seq 200); do curl -sf http://127.0.0.1:$port/health > /dev/null && break; sleep 1; done
ours() { "$tool/collect-workloads" drive --url http://127.0.0.1:$port --prompts "$prompts" --num-prompts "$count" \
  --output-tokens $tokens --temperature 0 --json -q "$@"; }
theirs() { python3 -m sglang.bench_serving --backend sglang --host 127.0.0.1 --port $port --model "$model" --tokenizer "$model" --dataset-name sharegpt \
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
print("schedule client        tok/s    TTFT mean / p50 / p99 ms    TPOT mean / p50 / p99 ms   request mean ms   completed")
for schedule in ("closed", "poisson"):
    for i in (1, 2, 3):
        o = json.load(open(f"{out}/ours-{schedule}-{i}.json"))
        f, p, r = o["time_to_first_token_s"], o["time_per_output_token_s"], o["request_s"]
        print(f"{schedule:8} ours     {o['output_tokens_per_second']:8.0f} {1e3*f['mean']:10.1f} {1e3*f['p50']:8.1f} {1e3*f['p99']:8.1f} "
              f"{1e3*p['mean']:10.2f} {1e3*p['p50']:8.2f} {1e3*p['p99']:8.2f} {1e3*r['mean']:12.1f} {o['completed']:10d}")
    for line in open(f"{out}/theirs-{schedule}.jsonl"):
        t = json.loads(line)
        print(f"{schedule:8} theirs   {t['output_throughput']:8.0f} {t['mean_ttft_ms']:10.1f} {t['median_ttft_ms']:8.1f} {t['p99_ttft_ms']:8.1f} "
              f"{t['mean_tpot_ms']:10.2f} {t['median_tpot_ms']:8.2f} {t['p99_tpot_ms']:8.2f} {t['mean_e2e_latency_ms']:12.1f} {t['completed']:10d}")
PY
