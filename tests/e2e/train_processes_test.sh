#!/usr/bin/env bash
# polyveil-train run as two processes: the curve and the weights of one process, and a run stopped and continued.
set -euo pipefail
train=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

mkdir -p "$folder/stories/toy"
for i in $(seq 40); do
  for j in 1 2 3 4 5; do echo "the $((i % 7)) cats met $((i % 11)) hens and $((i * j % 13)) owls went home"; done >"$folder/stories/toy/$i.txt"
done
"$train" prepare --data "$folder/stories" --out "$folder/data" --vocab 300 --heldout 20 >/dev/null
cat >"$folder/config.json" <<'JSON'
{"name": "toy", "threads": 1, "batch": 4, "accumulate": 2, "steps": 8, "log_every": 2, "checkpoint_every": 4,
 "shape": {"n_layers": 2, "d_model": 32, "n_heads": 2, "d_ff": 32, "vocab_size": 300, "context": 16},
 "range": {"divisor": {"weight": 1}}, "source_weights": {"toy": 1}}
JSON
run() { "$train" run --config "$folder/config.json" --data "$folder/data" --out "$folder/$1" "${@:2}"; }
losses() { sed 's/"tokens_per_second".*//' "$folder/$1/toy/curve.jsonl"; }
perplexity() { "$train" eval --data "$folder/data" "$folder/$1/toy/last.pt" | grep 'held-out perplexity'; }

run one >/dev/null
run two --processes 2 >"$folder/out"
[ "$(grep -c 'step 8/8' "$folder/out")" -eq 1 ] || fail "both processes report"
[ "$(losses one)" = "$(losses two)" ] || fail "two processes lose otherwise than one"
[ "$(perplexity one)" = "$(perplexity two)" ] || fail "two processes end with other weights than one"

run cut --processes 2 --stop-after 5 >/dev/null
run cut --processes 2 --resume >/dev/null
[ "$(perplexity one)" = "$(perplexity cut)" ] || fail "a continued run ends with other weights"

if run three --processes 3 >/dev/null 2>"$folder/error"; then fail "three processes share two batches"; fi
grep -q 'accumulate 2 is no multiple of 3 processes' "$folder/error" || fail "the refusal says: $(cat "$folder/error")"
echo "processes: ok"
