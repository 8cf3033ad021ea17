#!/usr/bin/env bash
# Prints the figures that README.md and docs/ quote: encrypted against float64, simulated prompts, bootstraps.
# Usage: scripts/measure.sh [OUT]     needs ./demo.sh to have built; about 12 minutes on two cores, 9 GB of memory.
set -euo pipefail
cd "$(dirname "$0")/.."
polyveil=build/tools/polyveil
out=${1:-measure}
mkdir -p "$out"

number=0
for prompt in "Once upon a time" "The little girl" "One day, the king"; do
  number=$((number + 1))
  "$polyveil" generate --prompt "$prompt" --tokens 8 --check --json "$out/generate-$number.json"
done
"$polyveil" simulate --count 200 --tokens 16 --json "$out/simulate.json"
"$polyveil" bench bootstrap --parameters full16 --json "$out/bootstrap-full16.json"
for set_and_period in "decode16 7" "sparse16 7" "sparse16 10"; do
  read -r set log_period <<<"$set_and_period"
  "$polyveil" bench bootstrap --parameters "$set" --log-period "$log_period" --json "$out/bootstrap-$set-$log_period.json"
done
