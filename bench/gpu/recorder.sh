#!/usr/bin/env bash
# On a machine with a GPU, SGLang 0.5.17 and FlashInfer 0.6.15.post1: is what the recorder says true, and what does it cost?
#
#   recorder.sh TOOL_FOLDER MODELS OUT STAGE...    TOOL_FOLDER as bench/gpu/prepare makes it; MODELS holds folders with a
#                                                  config.json and a tokenizer (weights are random)
# Stages:
#   truth      two small servers: CUDA graphs on, with a probe of SGLang's scheduler beside the recorder; and eager, recorded
#              and dumped at level 10 in the same process (five minutes, two of them FlashInfer's, to compile sampling)
#   graphs     Llama-3.1-8B shapes, 32 layers, graphs as SGLang sets them: three servers on the one GPU, the second with the
#              recorder and the others without, driven in turns, ROUNDS times (5)
#   eager      the same with graphs off; EAGER names others: `collected` hooks what `collect` does, `idle` nothing
#   mla, moe   as graphs: DeepSeek-V2-Lite and Qwen3-30B-A3B, 12 layers each so that three servers fit on one GPU
#   switched-eager, switched-graphs, switched-moe
#              one server under the recorder, which is off in every other four steps: on a machine that changes its speed more
#              often than two servers take turns
#   level10    what FlashInfer's own dumps cost, with four prompts of four tokens
set -uo pipefail
tool=$(cd "$1" && pwd) models=$(cd "$2" && pwd) out=$(mkdir -p "$3" && cd "$3" && pwd)
shift 3
work=$(mktemp -d) rounds=${ROUNDS:-5}
# However it ends, no server is left: an idle one spins, beside what is measured next.
clean_up() {
  for group in "$work"/*.group; do kill -KILL -- "-$(cat "$group")"; done 2> /dev/null
  cd / && rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 143' TERM
export HF_HUB_OFFLINE=1 XDG_CACHE_HOME=$work/cache
cd "$work"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu.txt"
lscpu > "$out/cpu.txt"; lscpu -e >> "$out/cpu.txt"
# A core that the thread which runs the model has for itself, and every processor of the other cores.
core=2
rest=$(python3 - $core <<'PY'
import os, sys
core = int(sys.argv[1])
siblings = {core}
try:
    for part in open(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read().split(","):
        first, _, last = part.partition("-")
        siblings.update(range(int(first), int(last or first) + 1))
except OSError:
    pass
print(*sorted(os.sched_getaffinity(0) - siblings), sep=",")
PY
)
echo "the model runs on processor $core, everything else on $rest"

# What `collect` hooks for Llama's definitions; `record` hooks everything.
collected=(BatchDecodeWithPagedKVCacheWrapper.__init__ BatchDecodeWithPagedKVCacheWrapper.plan BatchDecodeWithPagedKVCacheWrapper.run
  BatchPrefillWithPagedKVCacheWrapper.__init__ BatchPrefillWithPagedKVCacheWrapper.plan BatchPrefillWithPagedKVCacheWrapper.run
  BatchPrefillWithRaggedKVCacheWrapper.__init__ BatchPrefillWithRaggedKVCacheWrapper.plan BatchPrefillWithRaggedKVCacheWrapper.run
  rmsnorm fused_add_rmsnorm)

# serve NAME PORT MODEL FLAGS...: starts SGLang; under the recorder when NAME ends in -recorded, -collected or -idle.
serve() {
  local name=$1 port=$2 model=$3; shift 3
  local command=(python3 -m sglang.launch_server --model-path "$model" --load-format dummy --host 127.0.0.1 --port "$port"
    --attention-backend flashinfer --sampling-backend flashinfer --disable-radix-cache --skip-server-warmup "$@")
  case $name in
    both-recorded) command=("$tool/collect-workloads" record -o "$work/$name" --keep-values -- "${command[@]}") ;;
    *-recorded) command=("$tool/collect-workloads" record -o "$work/$name" -- "${command[@]}") ;;
    *-idle) command=("$tool/collect-workloads" record -o "$work/$name" --only no-such-function -- "${command[@]}") ;;
    *-collected) command=("$tool/collect-workloads" record -o "$work/$name" --only "${collected[@]}" -- "${command[@]}") ;;
  esac
  setsid "${command[@]}" > "$work/$name.log" 2>&1 < /dev/null &
  echo $! > "$work/$port.group"
}
ready() { # PORT NAME
  local i
  for i in $(seq 480); do  # kernels may be compiled
    curl -sf "http://127.0.0.1:$1/health" > /dev/null && return
    kill -0 "$(cat "$work/$1.group")" 2>/dev/null || break
    sleep 0.5
  done
  echo "$2 did not start:"; tail -n 15 "$work/$2.log"; cp "$work/$2.log" "$out"
  return 1
}
end() { # PORT...
  for port in "$@"; do kill -TERM -- "-$(cat "$work/$port.group")"; kill -CONT -- "-$(cat "$work/$port.group")"; done 2>/dev/null
  sleep 6
  for port in "$@"; do kill -KILL -- "-$(cat "$work/$port.group")" 2>/dev/null; done
  for port in "$@"; do while curl -s "http://127.0.0.1:$port/health" > /dev/null; do sleep 0.2; done; done
}
drive() { # PORT FLAGS...
  local port=$1; shift
  taskset -c "$rest" timeout 150 "$tool/collect-workloads" drive --url "http://127.0.0.1:$port" --json -q "$@"
}
scheduler() { pgrep -s "$(cat "$work/$1.group")" -f sglang::schedul | head -n 1; } # PORT: the process that runs the model
pin() { # PORT: its main thread to the core, every other thread of the server to the rest
  local task
  for task in $(pgrep -s "$(cat "$work/$1.group")"); do taskset -apc "$rest" "$task"; done > /dev/null
  taskset -pc $core "$(scheduler "$1")"
}
wake() { # NAME PORT PORTS...: of PORTS that server runs and the others are stopped; how fast the core is, is noted before
  local port
  for port in "${@:3}"; do kill -STOP -- "-$(cat "$work/$port.group")"; done
  echo "$1 $(taskset -c $core python3 -m timeit -u msec -n 5 -r 3 'sum(range(1000000))')" >> "$out/core-speed.txt"
  kill -CONT -- "-$(cat "$work/$2.group")"
}
memory() { # NAME PORT: host and device memory of the process that runs the model
  local pid
  pid=$(scheduler "$2")
  echo "$1 host $(grep -E 'VmHWM|VmRSS' "/proc/$pid/status" | tr -s '\n\t ' ' ')device $(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader | grep "$pid" | cut -d, -f2)"
}
# compare STAGE MODEL KINDS FLAGS...: a server of each kind, driven in turns, ROUNDS times or for UNTIL seconds, every time in
# another order; PROMPTS and TOKENS shorten a turn. A server of SGLang's that waits spins, and an eager step is bound by its
# processor: whoever shared a core with it was a third slower. So the servers that wait are stopped, and all run on the same
# core. `plain` and `again` are the same: how they differ is what is left of such things.
compare() {
  local stage=$1 model=$2 kinds=($3) ports=() kind port round turn; shift 3
  for kind in "${kinds[@]}"; do
    [ ${#ports[@]} = 0 ] || sleep 24  # each must see how much memory the one before has taken
    port=$((32001 + ${#ports[@]})); ports+=("$port")
    serve "$stage-$kind" "$port" "$model" --mem-fraction-static 0.8 "$@"
  done
  for turn in "${!kinds[@]}"; do ready "${ports[turn]}" "$stage-${kinds[turn]}" || { end "${ports[@]}"; return; }; done
  local traffic=(--prompts "$tool/prompts.json" --concurrency 100)
  for port in "${ports[@]}"; do
    wake "$stage-warm-up" "$port" "${ports[@]}"
    drive "$port" "${traffic[@]}" --num-prompts 200 --output-tokens 16 > /dev/null
    pin "$port"
  done
  for ((round = 1; round <= rounds && SECONDS < ${UNTIL:-100000}; ++round)); do
    for turn in "${!kinds[@]}"; do
      turn=$(((round % 2 ? turn : ${#kinds[@]} - 1 - turn) + round)) turn=$((turn % ${#kinds[@]}))
      wake "$stage-${kinds[turn]}-$round" "${ports[turn]}" "${ports[@]}"
      drive "${ports[turn]}" "${traffic[@]}" --num-prompts "${PROMPTS:-1000}" --seed "$round" --output-tokens "${TOKENS:-64}" \
        > "$out/runs/$stage-${kinds[turn]}-$round.json" 2>> "$out/drive.err"
    done
    echo "$stage, round $round, after $SECONDS s"
  done
  for turn in "${!kinds[@]}"; do memory "$stage-${kinds[turn]}" "${ports[turn]}"; done | tee -a "$out/memory.txt"
  end "${ports[@]}"
  for kind in "${kinds[@]}"; do
    [ -d "$work/$stage-$kind" ] || continue
    ls -l "$work/$stage-$kind" | tee -a "$out/recordings.txt"
    grep -h "collect-workloads recorder" "$work/$stage-$kind.log"
    timeout 60 "$tool/collect-workloads" inspect "$work/$stage-$kind" --trace-dir "$work/trace" > "$out/$stage-$kind-inspect.txt" 2>&1
  done
  python3 - "$out/runs" "$stage" "${kinds[@]}" <<'PY' | tee -a "$out/throughput.txt"
import json, pathlib, statistics, sys
folder, stage, *kinds = sys.argv[1:]
folder = pathlib.Path(folder)
rounds = min(len(list(folder.glob(f"{stage}-{kind}-*.json"))) for kind in kinds)
runs = {kind: [json.loads((folder / f"{stage}-{kind}-{i + 1}.json").read_text()) for i in range(rounds)] for kind in kinds}
speed = {kind: [r["output_tokens_per_second"] for r in runs[kind]] for kind in kinds}
time = {kind: [1e3 * r["time_per_output_token_s"]["mean"] for r in runs[kind]] for kind in kinds}
for kind in kinds:
    print(f"{stage:6} {kind:9} tok/s", *(f"{x:6.0f}" for x in speed[kind]), "  ms per output token", *(f"{x:6.2f}" for x in time[kind]),
          "  completed", sorted({r["completed"] for r in runs[kind]}))
def compare(kind, *base):  # the base of a round is the mean of its servers in that round
    def ratios(rows):
        unrecorded = [statistics.mean(rows[b][i] for b in base) for i in range(rounds)]
        return statistics.median(rows[kind]) / statistics.median(unrecorded), sorted(a / b for a, b in zip(rows[kind], unrecorded))
    (s, pairs), (t, _) = ratios(speed), ratios(time)
    print(f"{stage:6} {kind:9} to {' and '.join(base)}, {rounds} rounds, ratio of medians: throughput {s:.4f}, time per output token {1 / t:.4f}; "
          f"throughput, median of the rounds' ratios {statistics.median(pairs):.4f} "
          f"(half of them from {pairs[rounds // 4]:.4f} to {pairs[rounds * 3 // 4]:.4f})")
unrecorded = [kind for kind in kinds if kind in ("plain", "again")]
for kind in kinds:
    if kind not in unrecorded: compare(kind, *unrecorded)
for kind in unrecorded[1:]: compare(kind, unrecorded[0])
PY
}
# switched STAGE MODEL FLAGS...: one server, driven ROUNDS times, and bench/gpu/probe/probe_switch.py turns the recorder on and off in it.
switched() {
  local stage=$1 model=$2 round; shift 2
  (export SWITCH=$work/$stage PYTHONPATH=$tool/probe:$PYTHONPATH; serve "$stage-recorded" 32006 "$model" --mem-fraction-static 0.8 "$@")
  ready 32006 "$stage-recorded" || { end 32006; return; }
  drive 32006 --prompts "$tool/prompts.json" --concurrency 100 --num-prompts 200 --output-tokens 16 > /dev/null
  for ((round = 1; round <= rounds; ++round)); do
    drive 32006 --prompts "$tool/prompts.json" --concurrency 100 --num-prompts "${PROMPTS:-1000}" --seed "$round" --output-tokens "${TOKENS:-64}" \
      > "$out/runs/$stage-$round.json" 2>> "$out/drive.err"
  done
  end 32006
  ls -l "$work/$stage-recorded" | tee -a "$out/recordings.txt"
  grep -h "collect-workloads recorder" "$work/$stage-recorded.log"
  xz -k "$work/$stage".*.jsonl && cp "$work/$stage".*.jsonl.xz "$out"
  { echo "$stage, $rounds times ${PROMPTS:-1000} prompts:"; python3 "$tool/compare_switch.py" "$work/$stage".*.jsonl; } | tee -a "$out/switched.txt"
}
shortened() { # MODEL LAYERS: its folder
  mkdir -p "$work/$1" && cp "$models/$1"/* "$work/$1/"
  sed -i "s/\"num_hidden_layers\": [0-9]*/\"num_hidden_layers\": $2/" "$work/$1/config.json"
  echo "$work/$1"
}
eager=(--disable-cuda-graph --cuda-graph-backend-prefill disabled)
level10=(FLASHINFER_LOGLEVEL=10 FLASHINFER_LOGDEST="$work/flashinfer.log" FLASHINFER_DUMP_SAFETENSORS=1 FLASHINFER_DUMP_MAX_COUNT=100000
  'FLASHINFER_DUMP_EXCLUDE=*.__init__')
mkdir -p "$out/runs" "$work/trace" && tar xzf "$tool/definitions.tar.gz" -C "$work/trace"

for stage in "$@"; do
  echo "== $stage, after $SECONDS s"
  case $stage in
    truth)
      (export PROBE=$work/probe PYTHONPATH=$tool/probe:$PYTHONPATH
       serve truth-recorded 32003 "$models/llama-3.1-8b-short" --mem-fraction-static 0.5 --max-total-tokens 40000 --max-running-requests 64 --decode-log-interval 1)
      sleep 26
      (export "${level10[@]}" FLASHINFER_DUMP_DIR=$work/dumps FLASHINFER_DUMP_MAX_SIZE_GB=40
       serve both-recorded 32004 "$models/llama-3.1-8b-short" --mem-fraction-static 0.5 --max-total-tokens 4096 --max-running-requests 16 "${eager[@]}")
      ready 32003 truth-recorded; ready 32004 both-recorded
      drive 32003 --prompts "$tool/prompts.json" --num-prompts 60 --concurrency 24 --output-tokens 8-40 > "$out/truth-graphs.json" &
      client=$!
      drive 32004 --random-prompts --input-tokens 100 --num-prompts 8 --concurrency 3 --output-tokens 4 --temperature 0.8 --top-p 0.9 --top-k 50 > "$out/truth-both.json"
      wait $client
      sleep 1; end 32003 32004
      du -sm "$work/dumps"
      for kind in dumps both-recorded; do
        cp -r "$work/trace" "$work/trace-$kind"
        timeout 100 "$tool/collect-workloads" sanitize --input "$work/$kind" --trace-dir "$work/trace-$kind" --select all > "$out/truth-$kind.txt" 2>&1
        (cd "$work/trace-$kind" && tar cJf "$out/truth-$kind.tar.xz" workloads blob collection.json)
      done
      (cd "$work" && tar cJf "$out/truth.tar.xz" truth-recorded both-recorded probe.*.jsonl truth-recorded.log both-recorded.log)
      rm -rf "$work/dumps" ;;
    graphs) compare graphs "$models/llama-3.1-8b" "plain recorded again" --max-total-tokens 40000 ;;
    eager) compare eager "$models/llama-3.1-8b" "${EAGER:-plain recorded again}" --max-total-tokens 40000 "${eager[@]}" ;;
    switched-eager) switched "$stage" "$models/llama-3.1-8b" --max-total-tokens 40000 "${eager[@]}" ;;
    switched-graphs) switched "$stage" "$models/llama-3.1-8b" --max-total-tokens 40000 ;;
    switched-moe) switched "$stage" "$(shortened qwen3-30b-a3b 12)" --max-total-tokens 100000 ;;
    mla) compare mla "$(shortened deepseek-v2-lite 12)" "plain recorded again" --max-total-tokens 100000 ;;
    moe) compare moe "$(shortened qwen3-30b-a3b 12)" "plain recorded again" --max-total-tokens 100000 ;;
    level10)
      (export "${level10[@]}" FLASHINFER_DUMP_DIR=$work/dumps10 FLASHINFER_DUMP_MAX_SIZE_GB=30
       serve level10 32005 "$models/llama-3.1-8b" --mem-fraction-static 0.8 --max-total-tokens 16384 "${eager[@]}")
      ready 32005 level10 && drive 32005 --random-prompts --input-tokens 64 --num-prompts 4 --concurrency 4 --output-tokens 4 > "$out/level10.json"
      end 32005
      du -sm "$work/dumps10" | tee "$out/level10.du"; rm -rf "$work/dumps10" ;;
  esac
done
echo "== done, after $SECONDS s"
