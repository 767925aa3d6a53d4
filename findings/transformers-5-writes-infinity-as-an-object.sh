#!/usr/bin/env bash
# transformers 5 writes a config.json in which an infinite number is an object, {"__float__": "Infinity"}; transformers 4 reads it
# back without a word, as a dict in a list of numbers.
#
# Where it is met: state space models have time_step_limit: [0.0, inf]. As published by their makers, with transformers 4, the file
# has a bare Infinity, which is no JSON (Nemotron-H's config.json: strict parsers refuse all of it). The same config saved by
# transformers 5, after fine-tuning or quantizing, is JSON, but a number has become an object: engines that read config.json
# themselves and transformers 4, where it is installed, get a dict where kernels take an upper bound, and neither complains when
# it loads. In the other direction nothing is lost: transformers 5 reads both.
#
# Seen: transformers 5.24.0 and 4.57.3, Mamba2Config, Python 3.11, without PyTorch. This fails when either writes or reads it
# differently.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 5.24.0 4.57.3; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install -q "transformers==$version"
done

cd "$work"
cat > save.py << 'PY'
import sys, transformers
transformers.Mamba2Config(num_hidden_layers=2).save_pretrained(sys.argv[1])
PY
cat > read.py << 'PY'
import sys, transformers
print(transformers.AutoConfig.from_pretrained(sys.argv[1]).time_step_limit)
PY
for version in 5.24.0 4.57.3; do
  "$version/bin/python" save.py "saved-$version" 2> /dev/null
  echo "written by $version: $(tr -d '\n ' < "saved-$version/config.json" | grep -o '"time_step_limit":.[^]]*]')"
done
for writer in 5.24.0 4.57.3; do
  for reader in 5.24.0 4.57.3; do
    "$reader/bin/python" read.py "saved-$writer" 2> /dev/null > "read-$writer-$reader"
    echo "written by $writer, read by $reader: $(cat "read-$writer-$reader")"
  done
done
grep -q "{'__float__': 'Infinity'}" read-5.24.0-4.57.3
for other in read-5.24.0-5.24.0 read-4.57.3-5.24.0 read-4.57.3-4.57.3; do grep -q '^[[(]0.0, inf[])]$' "$other"; done
grep -q '{"__float__":"Infinity"}' <(tr -d '\n ' < saved-5.24.0/config.json)
grep -q 'Infinity' saved-4.57.3/config.json && ! python3 -c 'import json, sys
def refuse(constant): raise ValueError(constant)
json.load(open(sys.argv[1]), parse_constant=refuse)' saved-4.57.3/config.json 2> /dev/null
echo "as described"
