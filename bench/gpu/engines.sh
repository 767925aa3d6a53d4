#!/usr/bin/env bash
# On a machine with a GPU, today's engines: is what is recorded of them what their schedulers ran?
#
#   engines.sh TOOL_FOLDER MODELS OUT STAGE...    TOOL_FOLDER as bench/gpu/prepare makes it; MODELS holds folders with a config.json and
#                                                 a tokenizer (weights are random); the engines are in the caller's PYTHONPATH
# Stages:
#   sglang     SGLang 0.5.23, Llama-3.1-8B shapes, CUDA graphs on, with a probe in its scheduler
#   mla        the same, DeepSeek-V2-Lite shapes
#   vllm       vLLM 0.33.0, decode by FlashInfer's wrapper, CUDA graphs on, with a probe in its scheduler
#   xqa        the same, decode by XQA, as where NVIDIA's kernels can be downloaded
#   xqa64      the same with pages of 64 tokens
#   collect    vLLM again, by `collect` in one command: engine, traffic by the API that it has, workloads
#   collect64  the same by the recipe, `--engine vllm`, with the dataset's own definitions; and verified (flashinfer-bench)
#   vllm-all   vLLM by its recipe: all definitions of the dataset that Llama-3.1-8B calls; verified
#   vllm-bench the same for decode, with vLLM's own client
#   dedup      SGLang with graphs that it launches itself: SGLANG_ENABLE_CUDA_GRAPH_DEDUP
#   glue       SGLang with plans in a graph: SGLANG_ENABLE_METADATA_GLUE_GRAPH
#   all-MODEL  SGLang by its recipe: all definitions of the dataset that this model calls, in as few starts as that takes; verified
# compare_probe.py and compare_vllm.py read what they leave.
set -uo pipefail
tool=$(cd "$1" && pwd) models=$(cd "$2" && pwd) out=$(mkdir -p "$3" && cd "$3" && pwd)
shift 3
work=$(mktemp -d)
clean_up() {
  for group in "$work"/*.group; do kill -KILL -- "-$(cat "$group")"; done 2> /dev/null
  cd / && rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 143' TERM
export HF_HUB_OFFLINE=1
cd "$work"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu.txt"

# serve STAGE PORT COMMAND...: recorded and probed; waits until it is ready.
serve() {
  local stage=$1 port=$2 i; shift 2
  PROBE=$work/$stage.probe PYTHONPATH=$tool/probe:$PYTHONPATH setsid "$tool/collect-workloads" record -o "$work/$stage.recording" -- "$@" \
    --host 127.0.0.1 --port "$port" > "$work/$stage.log" 2>&1 < /dev/null &
  echo $! > "$work/$stage.group"
  for i in $(seq "${WAIT:-240}"); do
    curl -sf "http://127.0.0.1:$port/health" > /dev/null && { echo "$stage: ready after $i s"; return; }
    kill -0 "$(cat "$work/$stage.group")" 2> /dev/null || break
    sleep 1
  done
  echo "$stage did not start:"; tail -n 30 "$work/$stage.log"
  cp "$work/$stage.log" "$out"
  return 1
}
drive() { timeout 150 "$tool/collect-workloads" drive --url "http://127.0.0.1:$1" --json -q "${@:2}"; }
# finish STAGE: ends the server, sanitizes, and packs what the comparisons read.
finish() {
  local stage=$1 i
  sleep 1
  kill -TERM -- "-$(cat "$work/$stage.group")" 2> /dev/null
  for i in $(seq 20); do kill -0 -- "-$(cat "$work/$stage.group")" 2> /dev/null || break; sleep 0.5; done
  kill -KILL -- "-$(cat "$work/$stage.group")" 2> /dev/null
  wait 2> /dev/null
  mkdir -p "$work/trace" && tar xzf "$tool/definitions.tar.gz" -C "$work/trace"
  tar xzf "$tool/pages16.tar.gz" -C "$work/trace"
  cp -r "$work/trace" "$work/$stage.trace"
  timeout 100 "$tool/collect-workloads" sanitize --input "$work/$stage.recording" --trace-dir "$work/$stage.trace" --select all > "$out/$stage.txt" 2>&1
  timeout 60 "$tool/collect-workloads" validate --trace-dir "$work/$stage.trace" >> "$out/$stage.txt" 2>&1
  timeout 60 "$tool/collect-workloads" inspect "$work/$stage.recording" --trace-dir "$work/$stage.trace" > "$out/$stage.inspect.txt" 2>&1
  (cd "$work" && tar cJf "$out/$stage.tar.xz" "$stage.recording" "$stage".probe.* "$stage.log" "$stage.trace")
}

sglang=(python3 -m sglang.launch_server --load-format dummy --attention-backend flashinfer --mem-fraction-static 0.5
  --max-running-requests 64 --decode-log-interval 1 --skip-server-warmup)
for stage in "$@"; do
  echo "== $stage, after $SECONDS s"
  case $stage in
    sglang)
      serve sglang 32003 "${sglang[@]}" --model-path "$models/llama-3.1-8b-short" --max-total-tokens 40000 || continue
      drive 32003 --random-prompts --input-tokens 8-1500 --num-prompts 150 --concurrency 24 --output-tokens 8-40 | tee "$out/sglang.json" | head -4 ;;
    mla)
      serve mla 32004 "${sglang[@]}" --model-path "$models/deepseek-v2-lite-short" --max-total-tokens 40000 || continue
      drive 32004 --random-prompts --input-tokens 8-1500 --num-prompts 100 --concurrency 16 --output-tokens 8-40 | tee "$out/mla.json" | head -4 ;;
    vllm)
      serve vllm 32005 python3 -m vllm.entrypoints.cli.main serve "$models/llama-3.1-8b-short" --load-format dummy --attention-backend FLASHINFER \
        --attention-config.use_trtllm_attention=0 --gpu-memory-utilization 0.4 --max-model-len 8192 || continue
      drive 32005 --random-prompts --input-tokens 8-3000 --num-prompts 200 --request-rate 40 --output-tokens 8-60 | tee "$out/vllm.json" | head -4 ;;
    xqa | xqa64)
      pages=16; [ $stage = xqa ] || pages=64
      VLLM_HAS_FLASHINFER_CUBIN=1 serve $stage 32006 python3 -m vllm.entrypoints.cli.main serve "$models/llama-3.1-8b-short" --load-format dummy \
        --attention-backend FLASHINFER --block-size $pages --gpu-memory-utilization 0.4 --max-model-len 8192 || continue
      drive 32006 --random-prompts --input-tokens 8-3000 --num-prompts 200 --request-rate 40 --output-tokens 8-60 | tee "$out/$stage.json" | head -4 ;;
    collect64)
      mkdir -p "$work/collect64.trace" && tar xzf "$tool/definitions.tar.gz" -C "$work/collect64.trace"
      VLLM_HAS_FLASHINFER_CUBIN=1 timeout 240 "$tool/collect-workloads" collect --trace-dir "$work/collect64.trace" --engine vllm \
        --definition-name gqa_paged_decode_h32_kv8_d128_ps64 gqa_paged_prefill_causal_h32_kv8_d128_ps64 --model-name "$models/llama-3.1-8b-short" \
        --random-prompts --input-tokens 8-3000 --num-prompts 200 --request-rate 40 --output-tokens 8-60 --all-prompts --work-dir "$work/collect64.work" \
        --python "$(command -v python3)" \
        --engine-args "--load-format dummy --gpu-memory-utilization 0.4 --max-model-len 8192" > "$out/collect64.txt" 2>&1
      (cd "$work" && tar cJf "$out/collect64.tar.xz" collect64.trace)
      tail -n 40 "$out/collect64.txt"
      { timeout 60 "$tool/collect-workloads" validate --trace-dir "$work/collect64.trace"
        python3 "$tool/references.py" "$work/collect64.trace"
        timeout 200 "$tool/collect-workloads" verify --trace-dir "$work/collect64.trace" --python "$(command -v python3)"
        echo "exit status $?"; } > "$out/verify64.txt" 2>&1
      tail -n 20 "$out/verify64.txt"
      continue ;;
    vllm-all | vllm-bench)
      what=(--all) via=own
      [ $stage = vllm-all ] || what=(--definition-name gqa_paged_decode_h32_kv8_d128_ps64) via=engine
      mkdir -p "$work/$stage.trace" && tar xzf "$tool/definitions.tar.gz" -C "$work/$stage.trace"
      VLLM_HAS_FLASHINFER_CUBIN=1 timeout 300 "$tool/collect-workloads" collect --trace-dir "$work/$stage.trace" --engine vllm "${what[@]}" --via $via \
        --model-name "$models/llama-3.1-8b-short" --random-prompts --input-tokens 8-3000 --num-prompts 200 --request-rate 40 --output-tokens 8-60 \
        --all-prompts --work-dir "$work/$stage.work" --python "$(command -v python3)" \
        --engine-args "--load-format dummy --gpu-memory-utilization 0.4 --max-model-len 8192" > "$out/$stage.txt" 2>&1
      echo "exit status $?, after $SECONDS s" >> "$out/$stage.txt"
      (cd "$work" && tar cJf "$out/$stage.tar.xz" "$stage.trace" $(find "$stage.work" -name "*.log"))
      { timeout 60 "$tool/collect-workloads" validate --trace-dir "$work/$stage.trace"
        python3 "$tool/references.py" "$work/$stage.trace"
        timeout 100 "$tool/collect-workloads" verify --trace-dir "$work/$stage.trace" --python "$(command -v python3)" -q
        echo "exit status $?"; } > "$out/$stage.verify.txt" 2>&1
      tail -n 60 "$out/$stage.txt"; tail -n 12 "$out/$stage.verify.txt"
      continue ;;
    dedup | glue)
      option=SGLANG_ENABLE_CUDA_GRAPH_DEDUP; [ $stage = dedup ] || option=SGLANG_ENABLE_METADATA_GLUE_GRAPH
      export $option=1
      serve $stage 32007 "${sglang[@]}" --model-path "$models/llama-3.1-8b-short" --max-total-tokens 40000 || { unset $option; continue; }
      unset $option
      drive 32007 --random-prompts --input-tokens 8-1500 --num-prompts 60 --concurrency 12 --output-tokens 8-40 | tee "$out/$stage.json" | head -4 ;;
    all-*)
      mkdir -p "$work/$stage.trace" && tar xzf "$tool/definitions.tar.gz" -C "$work/$stage.trace"
      timeout 420 "$tool/collect-workloads" collect --trace-dir "$work/$stage.trace" --engine sglang --all --model-name "$models/${stage#all-}" \
        --random-prompts --input-tokens 8-1500 --num-prompts 100 --concurrency 16 --output-tokens 8-40 --work-dir "$work/$stage.work" \
        --python "$(command -v python3)" \
        --engine-args "--load-format dummy --mem-fraction-static 0.5 --max-total-tokens 40000 --skip-server-warmup" > "$out/$stage.txt" 2>&1
      echo "exit status $?, after $SECONDS s" >> "$out/$stage.txt"
      (cd "$work" && tar cJf "$out/$stage.tar.xz" "$stage.trace")
      { timeout 60 "$tool/collect-workloads" validate --trace-dir "$work/$stage.trace"
        python3 "$tool/references.py" "$work/$stage.trace"
        timeout 150 "$tool/collect-workloads" verify --trace-dir "$work/$stage.trace" --python "$(command -v python3)" -q
        echo "exit status $?"; } > "$out/$stage.verify.txt" 2>&1
      grep -v "^loading" "$out/$stage.txt" | tail -n 60; tail -n 25 "$out/$stage.verify.txt"
      continue ;;
    collect)
      mkdir -p "$work/collect.trace" && tar xzf "$tool/pages16.tar.gz" -C "$work/collect.trace"
      timeout 240 "$tool/collect-workloads" collect --trace-dir "$work/collect.trace" --op-type gqa_paged --random-prompts --input-tokens 8-3000 \
        --num-prompts 200 --request-rate 40 --output-tokens 8-60 --all-prompts --work-dir "$work/collect.work" --python "$(command -v python3)" --launch-command \
        "python3 -m vllm.entrypoints.cli.main serve $models/llama-3.1-8b-short --load-format dummy --attention-backend FLASHINFER \
        --attention-config.use_trtllm_attention=0 --gpu-memory-utilization 0.4 --max-model-len 8192 --host 127.0.0.1 --port {port}" > "$out/collect.txt" 2>&1
      (cd "$work" && tar cJf "$out/collect.tar.xz" collect.trace)
      tail -n 25 "$out/collect.txt"
      continue ;;
  esac
  finish "$stage"
done
echo "== done, after $SECONDS s"
