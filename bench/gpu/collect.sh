#!/usr/bin/env bash
# On a machine with a GPU, SGLang 0.5.17 and FlashInfer 0.6.15.post1: collects workloads of GQA decode, paged and ragged
# prefill, MLA, norms and sampling, with a disk budget of 2 GB, and leaves dataset and logs in OUT.
#
#   collect.sh TOOL_FOLDER MODELS OUT [STAGE]    TOOL_FOLDER as bench/gpu/prepare makes it; MODELS holds folders with a
#                                                config.json and a tokenizer (weights are random)
#   STAGE 1 (default): three models by sweep. STAGE 2: ShareGPT through our client, ShareGPT through SGLang's, and a
#   collection that is killed with -9 and resumed.
set -uo pipefail
tool=$(cd "$1" && pwd) models=$2 out=$(mkdir -p "$3" && cd "$3" && pwd) stage=${4:-1}
work=$(mktemp -d)
trace=$work/trace
export XDG_STATE_HOME=$work/state
mkdir -p "$trace" && tar xzf "$tool/definitions.tar.gz" -C "$trace"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/gpu$stage.txt"

# The budget is also measured from outside.
watch_disk() { # NAME
  local most=0 now
  while :; do
    now=$(du -sB1 "$work/dumps-$1" 2>/dev/null | cut -f1)
    [ "${now:-0}" -gt "$most" ] && most=$now && echo "$most" > "$out/$1.du"
    sleep 0.05
  done
}
flags() { # NAME MODEL
  echo "--trace-dir $work/trace-$1 --engine sglang --python python3 --model-name $models/$2 --tp 1 --disk-budget 2GB
    --dump-dir $work/dumps-$1 --work-dir $work/work-$1"
}
engine_args="--load-format dummy --max-total-tokens 24576 --mem-fraction-static 0.25 --max-running-requests 256"
# One dataset each: a dataset has one writer at a time.
begin() { mkdir -p "$work/dumps-$1" && cp -r "$trace" "$work/trace-$1"; }
end() { # NAME
  "$tool/collect-workloads" validate --trace-dir "$work/trace-$1" >> "$out/$1.log" 2>&1
  (cd "$work/trace-$1" && tar cJf "$out/$1.tar.xz" workloads blob collection.json)
}
collect() { # NAME MODEL FLAGS...
  local name=$1 model=$2; shift 2
  begin "$name"
  watch_disk "$name" & local watcher=$!
  timeout "${LIMIT:-540}" "$tool/collect-workloads" collect $(flags "$name" "$model") "$@" --engine-args "$engine_args" > "$out/$name.log" 2>&1
  echo "exit status $?" >> "$out/$name.log"
  kill $watcher
  end "$name"
}
sweep="--random-prompts --input-tokens 64 --output-tokens 8 --sweep 1,2,4,8,16,32,64,128,256 --sweep-rounds 2"
gqa() { echo "gqa_paged_decode_$1_ps1 gqa_ragged_prefill_causal_$1 gqa_paged_prefill_causal_$1_ps1"; }
if [ "$stage" = 1 ]; then
  collect llama llama-3.1-8b-short $sweep --definition-name $(gqa h32_kv8_d128) rmsnorm_h4096 fused_add_rmsnorm_h4096 \
    top_k_top_p_sampling_from_probs_v128256 &
  sleep 2
  collect deepseek deepseek-v2-lite-short $sweep --definition-name mla_paged_decode_h16_ckv512_kpe64_ps1 \
    mla_paged_prefill_causal_h16_ckv512_kpe64_ps1 mla_ragged_prefill_causal_h16_qk192_vo128 rmsnorm_h2048 fused_add_rmsnorm_h2048 &
  sleep 2
  collect qwen qwen3-30b-a3b-short $sweep --definition-name $(gqa h32_kv4_d128) rmsnorm_h2048 fused_add_rmsnorm_h2048 \
    top_k_top_p_sampling_from_probs_v151936 &
  wait
else
  sharegpt="--prompts $tool/prompts.json --num-prompts 200 --concurrency 24 --output-tokens 24"
  decode="--definition-name gqa_paged_decode_h32_kv8_d128_ps1 gqa_ragged_prefill_causal_h32_kv8_d128"
  collect sharegpt llama-3.1-8b-short $sharegpt $decode &
  sleep 2
  collect bench_serving llama-3.1-8b-short $sharegpt $decode --via bench_serving &
  sleep 2
  begin resumed
  "$tool/collect-workloads" collect $(flags resumed llama-3.1-8b-short) $sharegpt $decode --all-prompts --engine-args "$engine_args" \
    > "$out/resumed.log" 2>&1 &
  killed=$!
  for i in $(seq 1800); do
    sleep 0.1
    [ "$(grep -oP '"requests": ?\K\d+' "$work/work-resumed/run1/found/state.json" 2>/dev/null | tail -1)" -ge 60 ] 2>/dev/null && break
  done
  kill -KILL $killed
  echo "killed with -9 after $(grep -oP '"requests": ?\K\d+' "$work/work-resumed/run1/found/state.json") requests; engine processes left: $(pgrep -fc "work-resumed|dumps-resumed|sglang")" >> "$out/resumed.log"
  timeout 400 "$tool/collect-workloads" collect --resume "$work/work-resumed" >> "$out/resumed.log" 2>&1
  echo "exit status $?" >> "$out/resumed.log"
  wait
  end resumed
fi
ls -la "$out"; for file in "$out"/*.du; do echo "$file: $(cat "$file") bytes"; done; tail -n 3 "$out"/*.log; pgrep -fa sglang | head -5
cd / && rm -rf "$work"
