#!/usr/bin/env bash
# polyveil import, eval, plan, simulate, bench layer, fit, embed and classify as programs: reports, exit codes, a run stopped and continued.
set -euo pipefail
polyveil=$1
source=$2
make_random_model=$3
server=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"$polyveil" import "$source/tests/vectors/released/llama.gguf" --check --json "$folder/report.json" >"$folder/out"
grep -q '^model  *llama: 2 layers, width 16' "$folder/out" || fail "import prints no architecture"
grep -q '"family": "llama"' "$folder/report.json" || fail "import writes no report"
head -c 5000 "$source/tests/vectors/released/llama.gguf" >"$folder/short.gguf"
if "$polyveil" import "$folder/short.gguf" 2>"$folder/error"; then fail "a truncated file is accepted"; fi
grep -q 'gguf: ' "$folder/error" || fail "the refusal names no reason: $(cat "$folder/error")"
# Values that are no numbers are counted, named and an error: of a file's weights, of outputs, of scores (below).
head -c -8 "$source/tests/vectors/released/llama.gguf" >"$folder/nan.gguf"
printf '\0\0\300\177\0\0\200\177' >>"$folder/nan.gguf"  # NaN and infinity, float32
if "$polyveil" import "$folder/nan.gguf" --check >/dev/null 2>"$folder/error"; then fail "weights of NaN are accepted"; fi
grep -q '2 of [0-9]* elements are not finite, the first is' "$folder/error" || fail "NaN is not counted: $(cat "$folder/error")"
if "$polyveil" import "$folder/nan.gguf" --ids 1,2 --logits "$folder/logits" >/dev/null 2>"$folder/error"; then fail "logits of NaN are no error"; fi
grep -q 'outputs of 2 tokens are not finite' "$folder/error" || fail "outputs of NaN are not named: $(cat "$folder/error")"

mkdir "$folder/blimp"
for i in 1 2 3 4 5 6; do echo '{"good": "the cat sat down", "bad": "cat the down sat"}'; done >"$folder/blimp/order.jsonl"
evaluate() {
  "$polyveil" eval "$source/models/tiny" --data "$folder" --tasks blimp --state "$folder/state" --json "$folder/$1.json" "${@:2}" >/dev/null
}
evaluate whole
# A journal that lost its end, in the middle of a line, is continued to the same results.
head -c -40 "$folder/state" >"$folder/cut" && mv "$folder/cut" "$folder/state"
evaluate again
cmp "$folder/whole.json" "$folder/again.json" || fail "a continued run gives other results"
if evaluate other --evaluation exact 2>"$folder/error"; then fail "a journal of other settings is continued"; fi
grep -q 'MISMATCH\|mismatch' "$folder/error" || fail "the refusal names no reason: $(cat "$folder/error")"
: >"$folder/state"  # as an interruption may leave it: a new one
evaluate part --limit 4
evaluate all  # the limit is no setting: a longer run continues a shorter one
[ "$(wc -l <"$folder/state")" = 7 ] || fail "a run with a limit is not continued"
sed -i '3s/"finite":true/"finite":false/' "$folder/state"
if evaluate lost 2>"$folder/error"; then fail "a score without a number is no error"; fi
grep -q 'blimp/order: 1 of 6 examples without a number' "$folder/error" || fail "lost scores are not named: $(cat "$folder/error")"
grep -q '"not_finite": 1' "$folder/lost.json" || fail "the report of a run with lost scores is not written"
: >"$folder/nothing"
if "$polyveil" eval "$source/models/tiny" --text "$folder/nothing" >/dev/null 2>"$folder/error"; then fail "a text without a token has a perplexity"; fi
grep -q 'a text of 0 tokens: none to score' "$folder/error" || fail "the refusal names no number: $(cat "$folder/error")"

# Every form of a bundle gives the same scores, within what noise and the encoding leave: the sums of
# log-probabilities of a model whose logits reach some tens move by far less than 0.05.
"$make_random_model" "$folder/random"
mkdir -p "$folder/forms/blimp"
echo '{"good": "once upon a", "bad": "once a upon"}' >"$folder/forms/blimp/order.jsonl"
form() {
  "$polyveil" eval "$folder/random" --data "$folder/forms" --tasks blimp --parameters test10 --evaluation "$@" 2>"$folder/error"
}
for evaluation in polynomial simulated encrypted; do
  form $evaluation --insecure-test --state "$folder/$evaluation" >/dev/null || fail "$evaluation: $(cat "$folder/error")"
done
grep -q 'INSECURE' "$folder/error" || fail "parameters for tests are not told"
grep -q '1 examples to score, .* tokens, about' "$folder/error" || fail "the cost is not told"
python3 - "$folder" <<'EOF' || fail "forms differ"
import json, sys
scores = [json.loads(open(f"{sys.argv[1]}/{form}").readlines()[1])["log_probabilities"] for form in ("polynomial", "simulated", "encrypted")]
errors = [abs(a - b) for other in scores[1:] for a, b in zip(scores[0], other)]
sys.exit(not all(0 < error < 0.05 for error in errors))
EOF
if form encrypted >/dev/null; then fail "insecure parameters are used unasked"; fi
grep -q 'insecure' "$folder/error" || fail "the refusal names no reason: $(cat "$folder/error")"

"$polyveil" plan pythia-1.4b --context 8 --json "$folder/plan.json" >"$folder/out"
grep -q 'layers *24 of width 2048' "$folder/out" || fail "plan prints no layers"
grep -q '"model_parameters": 14' "$folder/plan.json" || fail "plan writes no parameters"
if "$polyveil" plan pythia-2b 2>"$folder/error"; then fail "an unknown shape is accepted"; fi
grep -q 'known: .*llama-3-8b' "$folder/error" || fail "the refusal names no shapes: $(cat "$folder/error")"
# One layer on ciphertexts, in a ring that is for tests only.
"$polyveil" bench layer pythia-70m --parameters test12 --tokens 1 --json "$folder/layer.json" --report "$folder/layer.html" \
  >"$folder/out" 2>/dev/null
python3 "$source/tests/e2e/report_page_test.py" "$folder/layer.html" "$folder/layer.json" || fail "the page of bench layer"
grep -q 'INSECURE' "$folder/out" || fail "an insecure ring is not named"
grep -q '"polyveil-bench-layer/1"' "$folder/layer.json" || fail "bench layer writes no report"
if "$polyveil" bench layer "$source/tests/vectors/released/llama.gguf" --layer 9 2>"$folder/error"; then fail "a layer that is not there"; fi
if "$polyveil" bench layer pythia-70m --at-once 8 2>"$folder/error" >/dev/null; then fail "more tokens at once than there are"; fi
grep -q -e '--at-once 8 > --tokens 2' "$folder/error" || fail "the refusal names no numbers: $(cat "$folder/error")"

# A softmax model is not served; fitted without training it is. In a ring that is for tests only.
"$source/scripts/make_random_checkpoint.py" "$folder/toy" --shape toy --shard-bytes 20000 >/dev/null
serve() {
  : >"$folder/port"
  exec "$server" --model "$1" --parameters test10 --threads 1 --port 0 --ready-fd 3 "${@:2}" 3>"$folder/port" 2>"$folder/error"
}
if (serve "$folder/toy"); then fail "a softmax model is served"; fi
grep -q 'attention is softmax.*polyveil fit.*polyveil-train distil' "$folder/error" || fail "no command named: $(cat "$folder/error")"
fit() { "$polyveil" fit "$folder/toy" --out "$1" --tokens 64 --window 8 --heldout 16 "${@:2}" >"$folder/out" 2>"$folder/error"; }
fit "$folder/fitted" || fail "fit: $(cat "$folder/error")"
grep -q 'held-out text [0-9]* of 16 positions' "$folder/out" || fail "fit does not say on what it was tried"
grep -q 'No weight was trained' "$folder/out" || fail "fit does not say that nothing was trained"
if fit "$folder/fitted"; then fail "forms are overwritten"; fi
grep -q 'forms.json is there' "$folder/error" || fail "the refusal names no file: $(cat "$folder/error")"
"$polyveil" plan "$folder/fitted" --parameters test10 --threads 1 --json "$folder/plan.json" >"$folder/out"
grep -q 'layers *[0-9]* of width 24' "$folder/out" || fail "plan of a fitted model: $(cat "$folder/out")"
"$polyveil" plan "$folder/toy" --parameters test10 --threads 1 >"$folder/out"
grep -q 'none of its own yet' "$folder/out" || fail "a softmax model's plan does not say what it takes"
printf 'abc' >"$folder/prompt"
"$polyveil" simulate "$folder/fitted" --parameters test10 --prompt-file "$folder/prompt" --tokens 3 --json "$folder/simulated.json" \
  >/dev/null 2>"$folder/error" || fail "simulating a fitted model: $(cat "$folder/error")"
python3 - "$folder" <<'EOF' || fail "plan or simulated text: $(cat "$folder/simulated.json")"
import json, sys
plan, run = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("plan", "simulated"))
assert plan["layers"] > 0 and plan["model_parameters"] > 0 and plan["estimate"]["seconds_per_token"] > 0
assert run["prompts"] == 1 and run["equal_tokens"] == run["tokens"] >= 3 and run["largest_logit_error"] < 0.05
assert run["bootstraps_per_token"] == plan["estimate"]["bootstraps_per_token"]
EOF
if "$polyveil" simulate "$folder/toy" --prompt-file "$folder/prompt" 2>"$folder/error" >/dev/null; then fail "a softmax model is simulated"; fi
grep -q 'attention is softmax.*polyveil fit' "$folder/error" || fail "no command named: $(cat "$folder/error")"
if "$polyveil" eval "$folder/fitted" --evaluation encrypted --text "$folder/prompt" 2>"$folder/error" >/dev/null; then fail "an evaluation that there is not"; fi
grep -q 'polyveil simulate' "$folder/error" || fail "the refusal names no verb: $(cat "$folder/error")"
[ -L "$folder/fitted/model.safetensors.index.json" ] || fail "the model's files are not linked"
fit "$folder/behind" --prefix 3,5 || fail "fit: $(cat "$folder/error")"
grep -q 'a prefix of 2 tokens' "$folder/out" || fail "fit does not say its prefix: $(cat "$folder/out")"
if fit "$folder/outside" --prefix 3,9999999; then fail "a prefix outside the vocabulary"; fi
grep -q 'token 9999999 outside the vocabulary' "$folder/error" || fail "no token named: $(cat "$folder/error")"
# What no reader of forms.json takes is not written.
if fit "$folder/outside" --prefix "$(seq -s, 65)"; then fail "a prefix that no reader takes"; fi
grep -q 'forms.prefix: 65 tokens > 64' "$folder/error" || fail "no prefix named: $(cat "$folder/error")"
if fit "$folder/outside" --norm-degree 128; then fail "a degree that no reader takes"; fi
grep -q -e '--norm-degree' "$folder/error" || fail "no degree named: $(cat "$folder/error")"
if [ -e "$folder/outside/forms.json" ] || [ -L "$folder/outside/config.json" ]; then fail "a refused fit leaves files"; fi
if (serve "$folder/fitted" --context 64); then fail "a context above the model's"; fi
grep -q 'context = 64 > 63' "$folder/error" || fail "the context is not named: $(cat "$folder/error")"
serve "$folder/fitted" &
pid=$!
for _ in $(seq 600); do [ -s "$folder/port" ] && break || sleep 0.1; done
[ -s "$folder/port" ] || fail "no server: $(cat "$folder/error")"
"$polyveil" info --server "http://127.0.0.1:$(cat "$folder/port")" --insecure-test >"$folder/out" || fail "no answer"
grep -q fitted "$folder/out" || fail "the server's model has no name"
# Its address is enough for a client that has nothing (width 24: the layout is padded); the second time from the cache.
export XDG_CACHE_HOME=$folder/cache
generate() {
  "$polyveil" generate --server "http://127.0.0.1:$(cat "$folder/port")" --prompt ab --tokens 3 --insecure-test "$@" 2>"$folder/error"
}
generate >"$folder/text" || fail "generate by an address: $(cat "$folder/error")"
[ "$(wc -c <"$folder/text")" -gt 3 ] || fail "no text: $(cat "$folder/text")"
[ -n "$(find "$folder/cache" -name tokenizer.json)" ] || fail "the client's half is not kept"
generate --model "$folder/fitted" --check >"$folder/checked" || fail "ciphertexts differ from float64: $(cat "$folder/error")"
grep -q 'argmax agrees at 4 of 4' "$folder/error" || fail "no check: $(cat "$folder/error")"
cmp "$folder/text" "$folder/checked" || fail "the same prompt gives another text"
kill "$pid"
wait "$pid" || fail "the server ends with status $?"

# An encoder reads whole texts, several in one ciphertext; pooling and head are the client's.
"$source/scripts/make_random_checkpoint.py" "$folder/bert" --shape toy-bert >/dev/null
"$polyveil" fit "$folder/bert" --out "$folder/encoder" --tokens 96 --window 12 --heldout 24 --margin 2 \
  --norm-degree 7 --divisor-degree 7 --activation-degree 7 >"$folder/out" 2>"$folder/error" || fail "fit of an encoder: $(cat "$folder/error")"
small=(--parameters test10 --insecure-test --threads 1)
printf 'once upon\na time\nthere was\n' >"$folder/lines"
"$polyveil" embed --model "$folder/encoder" "${small[@]}" --text-file "$folder/lines" --check --json "$folder/embed.json" \
  --report "$folder/embed.html" >"$folder/out" 2>"$folder/error" || fail "embed: $(cat "$folder/error")"
python3 "$source/tests/e2e/report_page_test.py" "$folder/embed.html" "$folder/embed.json" "once upon" || fail "the page of embed"
[ "$(wc -l <"$folder/out")" = 3 ] || fail "embed prints no line a text: $(cat "$folder/out")"
"$polyveil" classify --model "$folder/encoder" "${small[@]}" --text 'once' --second 'upon' --check --json "$folder/classes.json" \
  >"$folder/out" 2>"$folder/error" || fail "classify: $(cat "$folder/error")"
grep -qE '^(yes|no) 0\.[0-9]+$' "$folder/out" || fail "classify prints no label: $(cat "$folder/out")"
python3 - "$folder" <<'EOF' || fail "reports of embed and classify"
import json, sys
embed, classes = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("embed", "classes"))
assert embed["runs"] == 1 and len(embed["texts"]) == 3 and embed["within_noise"] is True
for text in embed["texts"]:
    assert len(text["embedding"]) == 24 and abs(sum(x * x for x in text["embedding"]) - 1) < 1e-5
assert set(classes["texts"][0]["probabilities"]) == {"yes", "no"} and classes["texts"][0]["tokens"] == 11
EOF
# The head on the server: by forms.json's polynomial, which fit adds where it is not there.
"$polyveil" classify --model "$folder/encoder" "${small[@]}" --head server --text 'once' --second 'upon' --check \
  --json "$folder/headed.json" >"$folder/headed" 2>"$folder/error" || fail "classify --head server: $(cat "$folder/error")"
python3 - "$folder" <<'EOF' || fail "the server's head and the client's differ"
import json, sys
client, server = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("classes", "headed"))
assert client["head"] == "client" and server["head"] == "server" and server["within_noise"] is True
a, b = (report["texts"][0]["probabilities"] for report in (client, server))
assert max(abs(a[label] - b[label]) for label in a) < 0.05, (a, b)
EOF
mkdir "$folder/headless"
cp -L "$folder/encoder"/* "$folder/headless"
python3 -c 'import json, sys; p = sys.argv[1]; f = json.load(open(p)); del f["head"]; json.dump(f, open(p, "w"))' "$folder/headless/forms.json"
if "$polyveil" classify --model "$folder/headless" "${small[@]}" --head server --text once 2>"$folder/error" >/dev/null; then fail "a head without a polynomial"; fi
grep -q "forms.head is not there: 'polyveil fit" "$folder/error" || fail "no command named: $(cat "$folder/error")"
"$polyveil" fit "$folder/headless" --out "$folder/added" --tokens 96 --window 12 --heldout 24 --margin 2 \
  --activation-degree 7 >"$folder/out" 2>"$folder/error" || fail "a head is not added: $(cat "$folder/error")"
cmp <(python3 -m json.tool "$folder/encoder/forms.json") <(python3 -m json.tool "$folder/added/forms.json") || fail "fit changes more than the head"
rm -f "$folder/port"
serve "$folder/encoder" --head &
pid=$!
for _ in $(seq 600); do [ -s "$folder/port" ] && break || sleep 0.1; done
address=(--server "http://127.0.0.1:$(cat "$folder/port")" --insecure-test)
"$polyveil" classify "${address[@]}" --head server --text once >"$folder/out" 2>"$folder/error" || fail "classify by an address: $(cat "$folder/error")"
grep -qE '^(yes|no) 0\.[0-9]+$' "$folder/out" || fail "no label: $(cat "$folder/out")"
if "$polyveil" embed "${address[@]}" --text once 2>"$folder/error" >/dev/null; then fail "logits are embedded"; fi
grep -q 'logits of 2 labels' "$folder/error" || fail "the refusal names no labels: $(cat "$folder/error")"
kill "$pid"
wait "$pid" || fail "the server ends with status $?"
if "$polyveil" embed --model "$folder/fitted" --text a 2>"$folder/error"; then fail "a decoder embeds"; fi
grep -q 'is no encoder' "$folder/error" || fail "the refusal names no reason: $(cat "$folder/error")"
if "$polyveil" generate --model "$folder/encoder" "${small[@]}" --prompt a --tokens 1 2>"$folder/error" >/dev/null; then fail "an encoder writes"; fi
grep -q 'encoder, which' "$folder/error" || fail "the refusal names no reason: $(cat "$folder/error")"
if "$polyveil" chat --model "$folder/encoder" "${small[@]}" </dev/null 2>"$folder/error" >/dev/null; then fail "an encoder chats"; fi
grep -q 'encoder, which' "$folder/error" || fail "chat's refusal names no reason: $(cat "$folder/error")"
printf a >"$folder/a"
if "$polyveil" simulate --model "$folder/encoder" --parameters test10 --prompt-file "$folder/a" 2>"$folder/error" >/dev/null; then fail "an encoder is simulated"; fi
grep -q 'encoder, which' "$folder/error" || fail "simulate's refusal names no reason: $(cat "$folder/error")"
long=$(printf 'x%.0s' $(seq 60))
if "$polyveil" embed --model "$folder/encoder" "${small[@]}" --text "$long" 2>"$folder/error"; then fail "a text above the context"; fi
grep -q 'a text of 62 tokens' "$folder/error" || fail "the refusal names no numbers: $(cat "$folder/error")"
echo "import, eval, plan, simulate, bench layer, fit, embed, classify: ok"
