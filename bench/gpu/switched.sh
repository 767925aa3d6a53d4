#!/usr/bin/env bash
# On a machine with a GPU: what recording costs two builds of the recorder, in turns, within one
# process each (switched-eager and switched-graphs of recorder.sh).
#
#   switched.sh BEFORE AFTER MODELS OUT SECONDS STAGE...
#
# BEFORE and AFTER are as bench/gpu/prepare makes them, with prompts. TURNS servers of each build (1)
# are driven ROUNDS times each; PROMPTS and TOKENS are recorder.sh's.
set -uo pipefail
before=$(cd "$1" && pwd) after=$(cd "$2" && pwd) models=$(cd "$3" && pwd)
out=$(mkdir -p "$4" && cd "$4" && pwd) seconds=$5
shift 5
for ((turn = 1; turn <= ${TURNS:-1}; ++turn)); do
  for build in before after; do
    [ $SECONDS -lt "$seconds" ] || break
    run=$out/$build-$turn
    timeout --kill-after=15 $((seconds - SECONDS)) \
      bash "${!build}/recorder.sh" "${!build}" "$models" "$run" "$@" > "$run.log" 2>&1
    rm -rf "$run/runs"
  done
done
# All pairs of a build together.
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
for stage in "$@"; do
  for build in before after; do
    for file in "$out/$build"-*/"$stage".*.jsonl.xz; do
      xz -dc "$file" > "$work/$build-$(basename "$(dirname "$file")")-$stage.jsonl"
    done
    echo "$stage, $build:"
    python3 "$after/compare_switch.py" "$work/$build"-*"-$stage.jsonl"
  done
done | tee "$out/switched.txt"
