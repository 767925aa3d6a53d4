#!/usr/bin/env bash
# On a machine with a GPU, SGLang 0.5.17 and FlashInfer 0.6.15.post1: collects workloads of GQA decode, paged and ragged
# prefill, MLA, norms and sampling, with a disk budget of 2 GB, and leaves dataset and logs in OUT.
#
#   collect.sh TOOL_FOLDER MODELS OUT    TOOL_FOLDER as bench/gpu/prepare makes it; MODELS holds folders with a
#                                        config.json and a tokenizer (weights are random)
set -uo pipefail
tool=$(cd "$1" && pwd) models=$2 out=$(mkdir -p "$3" && cd "$3" && pwd)
work=$(mktemp -d)
trace=$work/trace
export XDG_STATE_HOME=$work/state
mkdir -p "$trace" && tar xzf "$tool/definitions.tar.gz" -C "$trace"

# The budget is also measured from outside.
watch_disk() { # NAME
  local most=0 now
  while :; do
    now=$(du -sB1 "$work/dumps-$1" 2>/dev/null | cut -f1)
    [ "${now:-0}" -gt "$most" ] && most=$now && echo "$most" > "$out/$1.du"
    sleep 0.05
  done
}
collect() { # NAME MODEL DEFINITION...
  local name=$1 model=$2; shift 2
  mkdir -p "$work/dumps-$name"
  watch_disk "$name" & local watcher=$!
  # Three datasets, merged by content below: a dataset has one writer at a time.
  cp -r "$trace" "$work/trace-$name"
  timeout 540 "$tool/collect-workloads" collect --trace-dir "$work/trace-$name" --engine sglang --python python3 \
    --model-name "$models/$model" --definition-name "$@" --random-prompts --input-tokens 64 --output-tokens 8 \
    --sweep 1,2,4,8,16,32,64,128,256 --sweep-rounds 2 --disk-budget 2GB --dump-dir "$work/dumps-$name" \
    --work-dir "$work/work-$name" --tp 1 \
    --engine-args "--load-format dummy --max-total-tokens 24576 --mem-fraction-static 0.25 --max-running-requests 256" \
    > "$out/$name.log" 2>&1
  echo "exit status $?" >> "$out/$name.log"
  kill $watcher
  "$tool/collect-workloads" validate --trace-dir "$work/trace-$name" >> "$out/$name.log" 2>&1
  for log in "$work/work-$name"/run*/engine.log; do tail -c 200000 "$log" | grep -v "^$" | tail -n 60 > "$out/$name.$(basename "$(dirname "$log")").engine.log"; done
}
gqa() { echo "gqa_paged_decode_$1_ps1 gqa_ragged_prefill_causal_$1 gqa_paged_prefill_causal_$1_ps1"; }
collect llama llama-3.1-8b-short $(gqa h32_kv8_d128) rmsnorm_h4096 fused_add_rmsnorm_h4096 top_k_top_p_sampling_from_probs_v128256 &
sleep 2
collect deepseek deepseek-v2-lite-short mla_paged_decode_h16_ckv512_kpe64_ps1 mla_paged_prefill_causal_h16_ckv512_kpe64_ps1 \
  mla_ragged_prefill_causal_h16_qk192_vo128 rmsnorm_h2048 fused_add_rmsnorm_h2048 &
sleep 2
collect qwen qwen3-30b-a3b-short $(gqa h32_kv4_d128) rmsnorm_h2048 fused_add_rmsnorm_h2048 top_k_top_p_sampling_from_probs_v151936 &
wait
cd "$work" && for name in llama deepseek qwen; do (cd "trace-$name" && tar cJf "$out/$name.tar.xz" workloads blob collection.json); done
ls -la "$out"; cat "$out"/*.du; pgrep -fa "sglang" | head -5
cd / && rm -rf "$work"
