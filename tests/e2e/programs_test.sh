#!/usr/bin/env bash
# The programs as a user runs them, on a small insecure ring: generation, key files, and every bad input with a
# clear message and a status other than 0.
set -euo pipefail
polyveil=$1 make_model=$2
folder=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
"$make_model" "$folder/model" 1
"$make_model" "$folder/other" 2
# One thread: on a busy machine tiny work items wait longer for a second one than they take.
common=(--model "$folder/model" --threads 1)
small=("${common[@]}" --parameters test10 --insecure-test)

fail() {
  echo "FAILED: $1" >&2
  cat "$folder/out" "$folder/err" >&2 || true
  exit 1
}
# accept WHAT COMMAND...: must succeed.
accept() {
  local what=$1
  shift
  "$@" >"$folder/out" 2>"$folder/err" || fail "$what: status $?"
  echo "ok: $what"
}
# refuse WHAT PATTERN COMMAND...: must fail (not by a signal) with the pattern in its message.
refuse() {
  local what=$1 pattern=$2 status=0
  shift 2
  "$@" >"$folder/out" 2>"$folder/err" || status=$?
  [ "$status" -ne 0 ] || fail "$what: accepted"
  [ "$status" -lt 126 ] || fail "$what: status $status"
  grep -qE "$pattern" "$folder/err" || fail "$what: no '$pattern'"
  echo "ok: $what: $(tail -1 "$folder/err")"
}
generate() { "$polyveil" generate "$@"; }

# A demonstration run that anyone checks, and not a byte of it may differ.
accept "a run with evidence" generate "${small[@]}" --prompt "o" --tokens 3 --evidence "$folder/evidence"
accept "verify" "$polyveil" verify "$folder/evidence" --model "$folder/model" --threads 1
grep -q "verified: 4 steps" "$folder/out" || fail "verify: $(cat "$folder/out")"
accept "a run with evidence behind a public part" generate "${small[@]}" --public "on" --prompt "o" --tokens 2 --evidence "$folder/evidence2"
accept "verify behind a public part" "$polyveil" verify "$folder/evidence2" --model "$folder/model" --threads 1
refuse "evidence in a folder that is there" "cannot make the folder" generate "${small[@]}" --prompt "o" --tokens 2 --evidence "$folder/evidence"
refuse "evidence of a stored key" "no --keys" generate "${small[@]}" --prompt "o" --tokens 2 --evidence "$folder/e3" --keys "$folder/k"
refuse "verify with another model" "the model's tensors" "$polyveil" verify "$folder/evidence" --model "$folder/other"
verify_damaged() {
  local what=$1 pattern=$2 script=$3
  rm -rf "$folder/damaged"
  cp -r "$folder/evidence" "$folder/damaged"
  (cd "$folder/damaged" && python3 -c "$script")
  refuse "verify $what" "$pattern" "$polyveil" verify "$folder/damaged" --model "$folder/model" --threads 1
}
edit='import json; e=json.load(open("evidence.json")); s=e["steps"]'
save='; json.dump(e, open("evidence.json", "w"))'
verify_damaged "another token" "differs from token" "$edit; s[0][\"token\"] = 1 - s[0][\"token\"] % 2$save"
verify_damaged "another pick" "picked token" "$edit; s[2][\"next\"] += 1$save"
verify_damaged "a step left out" "expected position" "$edit; del s[1]$save"
verify_damaged "another key's digest" "the key" "$edit; e[\"key_id\"] = \"0\" * 64$save"
verify_damaged "exchanged answers" "position = 1, expected 0" 'import os; os.replace("00001.down", "00000.down")'
verify_damaged "a damaged answer" "checksum" 'b=bytearray(open("00002.down","rb").read()); b[-9] ^= 1; open("00002.down","wb").write(b)'
verify_damaged "nothing" "cannot open|No such file" 'import os; os.remove("00000.up")'

# Generation with a server of its own equals the float64 polynomial model's.
accept "plain" generate "${common[@]}" --plain --prompt "o" --tokens 4
plain=$(cat "$folder/out")
accept "encrypted" generate "${small[@]}" --check --prompt "o" --tokens 4 --json "$folder/run.json" --report "$folder/run.html"
[ "$(cat "$folder/out")" = "$plain" ] || fail "encrypted text differs from '$plain'"
grep -q "argmax agrees at 5 of 5" "$folder/err" || fail "check"
python3 - "$folder/run.json" <<'P'
import json, sys
run = json.load(open(sys.argv[1]))
latency = run["latency"]
for rows in ("components", "primitives"):
    total = sum(row["seconds"] for row in latency[rows])
    assert abs(total - latency["total_seconds"]) < 1e-6, (rows, total, latency["total_seconds"])
assert abs(latency["total_seconds"] - run["tokens_seconds"]) < 1e-6
# Nothing decrypted but tokens and verdicts.
assert run["share_bits"] == 0 and len(run["tokens"]) == 5
for token in run["tokens"]:
    assert token["within_noise"] is True and token["argmax_agrees"] is True and token["logits_allowed"] > 0, token
    assert "logits_error" not in token and "flooding_sigma" not in token, token
assert run["generated"] == 4 and run["key_bytes_up"] > 0 and run["server_peak_rss_bytes"] > 0
estimate = run["model"]["estimate"]
predicted = estimate["server_bytes"] - estimate["key_bytes_memory"] + run["model"]["key_set_bytes"]
assert run["server_peak_rss_bytes"] <= predicted, (run["server_peak_rss_bytes"], predicted)
memory = {entry["name"]: entry["bytes"] for entry in run["server_memory"]}
keys = sum(size for name, size in memory.items() if name.startswith("keys: "))
assert keys == run["model"]["key_set_bytes"] > 0, (keys, run["model"]["key_set_bytes"])
assert run["model"]["insecure"] is True and run["commit"] and run["backend"] and run["threads"] == 1
P
here=$(dirname "$0")
python3 "$here/report_page_test.py" "$folder/run.html" "$folder/run.json" "$plain" "$(command -v chromium || true)" \
  ${POLYVEIL_SCREENSHOTS:+"$POLYVEIL_SCREENSHOTS"} || fail "the page of a run"
[ "$(stat -c %a "$folder/run.html")" = 600 ] || fail "the page is for more than its owner"
refuse "a page that cannot be written" "/nowhere" generate "${small[@]}" --prompt "o" --report /nowhere/page.html

# Several texts together: each what it is alone, whatever its length; what cannot be is refused by name.
printf 'o\nno\n\none\n' >"$folder/prompts"
for prompt in o no one; do
  generate "${common[@]}" --plain --prompt "$prompt" --tokens 3 2>/dev/null
done >"$folder/alone"
accept "texts together" generate "${small[@]}" --prompts-file "$folder/prompts" --tokens 3 --check --json "$folder/texts.json" --report "$folder/texts.html"
cmp "$folder/out" "$folder/alone" || fail "texts together are not those alone: $(cat "$folder/out" "$folder/alone")"
python3 "$here/report_page_test.py" "$folder/texts.html" "$folder/texts.json" || fail "the page of several texts"
python3 - "$folder/texts.json" <<'P'
import json, sys
run = json.load(open(sys.argv[1]))
assert run["format"] == "polyveil-batch-run/1" and run["model"]["texts"] == 4 and run["generated"] == 9
assert [text["prompt"] for text in run["texts"]] == ["o", "no", "one"]
lengths = [len(text["tokens"]) for text in run["texts"]]
assert lengths == sorted(lengths) and lengths[0] < lengths[-1] == run["latency"]["steps"], lengths
for text in run["texts"]:
    assert text["end"] == "tokens" and text["generated"] == 3
    for token in text["tokens"]:
        assert token["within_noise"] is True and token["argmax_agrees"] is True and "logits_error" not in token, token
P
accept "two prompts" generate "${small[@]}" --prompt o --prompt no --tokens 3 --texts 8 --fixed-length
cmp "$folder/out" <(head -2 "$folder/alone") || fail "two prompts"
grep -q "0 texts go on" "$folder/err" || fail "two prompts: no last step"
refuse "more prompts than --texts" "texts 2: there are 3 prompts" generate "${small[@]}" --prompts-file "$folder/prompts" --texts 2
refuse "more texts than slots" "texts = 32: a ciphertext of 512 slots holds 16" generate "${small[@]}" --prompt o --prompt o --texts 32
refuse "texts that are no power of two" "texts = 3: a power of two" generate "${small[@]}" --prompt o --prompt o --texts 3
refuse "a file of no prompts" "no prompt in it" generate "${small[@]}" --prompts-file /dev/null
refuse "a long prompt among others" "prompt 2: .*context" generate "${small[@]}" --prompt o --prompt "$(printf 'o%.0s' $(seq 40))"
for alone in "--plain" "--evidence $folder/e4" "--prompt-tokens 1" "--public o" "--at-once"; do
  # shellcheck disable=SC2086
  refuse "$alone with two prompts" "goes with one prompt, not with 2" generate "${small[@]}" --prompt o --prompt no $alone
done
refuse "texts at once of a plan" "no prompts at once" "$polyveil" plan "$folder/model" --parameters test10 --texts 2 --at-once
accept "a plan of texts together" "$polyveil" plan "$folder/model" --parameters test10 --threads 1 --texts 4
grep -q "4 texts decoded together" "$folder/out" || fail "the plan names no texts"
accept "a simulation of texts together" "$polyveil" simulate "$folder/model" --parameters test10 --texts 4 --count 1 --tokens 2 --prompts "$folder/prompts"

single=(--model "$(cd "$(dirname "$0")/../../models" && pwd)/tiny-single" --choose --parameters test13)
accept "a plan of chosen tokens" "$polyveil" plan "${single[@]}" --threads 1
grep -q "choosing .*among 4096 tokens" "$folder/out" || fail "the plan names no choice"
echo "Once upon a time" >"$folder/once"
accept "a simulation of chosen tokens" "$polyveil" simulate "${single[@]}" --tokens 2 --prompts "$folder/once" --json "$folder/chosen.json"
python3 - "$folder/chosen.json" <<'P'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["tokens"] == 2 and report["wrong"] == 0 and report["guard_alarms"] == 0, report
assert all(error < 0.01 for error in report["error_of_the_embedding_by_token"]), report
P
refuse "draws without a temperature" "a temperature above 0" "$polyveil" simulate "${single[@]}" --draws 3 --prompts "$folder/once"
cp -r "${single[1]}" "$folder/single"
sed -i 's/"tables": "./"tables": "x/' "$folder/single/choice.json"
refuse "a choice of another model" "is of tables x" "$polyveil" plan --model "$folder/single" --choose --parameters test13
echo '{"format": "polyveil-choice/1"}' >"$folder/single/choice.json"
refuse "a broken choice" "choice" "$polyveil" plan --model "$folder/single" --choose --parameters test13
rm "$folder/single/choice.json"
refuse "a model without choice.json" "fit-choice" "$polyveil" plan --model "$folder/single" --choose --parameters test13
refuse "a table of pairs" "runs of tokens" "$polyveil" fit-choice --model "$folder/model" --text "$folder/once"
"$make_model" "$folder/brief" 1 4 4 0
refuse "a context too short to fit on" "decoder.context = 4 < 5" "$polyveil" fit-choice --model "$folder/brief" --text "$folder/once"

accept "a report to share" generate "${small[@]}" --check --prompt "o" --tokens 4 --share-bits 30 --json "$folder/shared.json"
python3 - "$folder/shared.json" <<'P'
import json, sys
run = json.load(open(sys.argv[1]))
assert run["share_bits"] == 30
errors = []
for token in run["tokens"]:
    sigma = (12 * len(run["tokens"])) ** 0.5 * 2 ** 15 * token["logits_allowed"]
    assert abs(token["flooding_sigma"] / sigma - 1) < 1e-9 and abs(token["logits_error"]) < 8 * sigma, token
    errors.append(abs(token["logits_error"]) / sigma)
assert max(errors) > 1e-2 and len(set(errors)) == len(errors), errors  # far above the noise itself, 1e-6 of sigma
P
for bits in 1 29; do
  refuse "--share-bits $bits" "$bits bits, expected 30 to 128" \
    generate "${small[@]}" --check --prompt "o" --share-bits "$bits" --json "$folder/shared.json"
done
refuse "--share-bits without a report" "goes with --json and --check" generate "${small[@]}" --check --prompt "o" --share-bits 30
accept "compact keys" generate "${small[@]}" --key-storage compact --prompt "o" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "text with compact keys differs from '$plain'"
grep -q "keys: rotations, compact" "$folder/err" || fail "memory report"
stop=$(python3 -c "print('$plain'[3:5])")
accept "a stop text" generate "${common[@]}" --plain --prompt "o" --tokens 4 --stop "no such text" --stop "$stop"
[ "$(cat "$folder/out")" = "$(python3 -c "p='$plain'; print(p[:p.index(p[3:5], 1)])")" ] || fail "a stop text: $(cat "$folder/out")"
accept "penalised sampling" generate "${small[@]}" --prompt "o" --tokens 2 --temperature 0.9 --top-k 5 \
  --repetition-penalty 1.3 --seed 4
accept "sampling" generate "${small[@]}" --prompt "o" --tokens 2 --temperature 0.9 --top-p 0.8 --seed 4
# A part that the server may read takes no step; the text is that of all encrypted tokens.
accept "plain behind a public part" generate "${common[@]}" --plain --public "on" --prompt "o" --tokens 3
known=$(cat "$folder/out")
accept "a public part" generate "${small[@]}" --check --show-public --public "on" --prompt "o" --tokens 3 --json "$folder/public.json"
[ "$(cat "$folder/out")" = "$known" ] || fail "a public part: text differs from '$known'"
grep -q "argmax agrees at 3 of 3" "$folder/err" || fail "a public part: check"
grep -q '^ *257  "on"' "$folder/err" || fail "a public part: --show-public"
python3 - "$folder/public.json" <<'P'
import json, sys
run = json.load(open(sys.argv[1]))
assert run["public_tokens"] == 2 and [t["position"] for t in run["tokens"]] == [2, 3, 4], run["tokens"]
P
printf on >"$folder/known"
accept "a public file, all private" generate "${small[@]}" --all-private --public-file "$folder/known" --prompt "o" --tokens 3
[ "$(cat "$folder/out")" = "$known" ] || fail "all private: text differs from '$known'"
grep -q "nothing is sent in the clear" "$folder/err" || fail "all private: not said"
grep -q "5/5" "$folder/err" || fail "all private: not every token was encrypted"
refuse "a public part alone" "empty behind its public part" generate "${small[@]}" --public "on"
refuse "two public parts" "excludes" generate "${small[@]}" --public "on" --public-file "$folder/known" --prompt o
refuse "a public part that fills the context" "prompt: 11 tokens .*context is 8" generate "${small[@]}" \
  --public "xxxxxxxxx" --prompt o
refuse "a missing public part" "cannot read a prompt" generate "${small[@]}" --public-file "$folder/none" --prompt o
pgrep -P $$ -f polyveil-server >/dev/null && fail "a server was left behind"

# Prompts that are no arguments; all announced tokens whatever they are.
printf 'o\n' >"$folder/prompt"
accept "a prompt's file" generate "${common[@]}" --plain --prompt-file "$folder/prompt" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "a prompt's file: text differs from '$plain'"
accept "a prompt on the standard input" bash -c \
  "printf o | '$polyveil' generate --model '$folder/model' --threads 1 --plain --prompt-file - --tokens 4"
[ "$(cat "$folder/out")" = "$plain" ] || fail "standard input: text differs from '$plain'"
refuse "two prompts" "excludes" generate "${common[@]}" --plain --prompt o --prompt-file "$folder/prompt"
refuse "a missing prompt" "cannot read a prompt" generate "${common[@]}" --plain --prompt-file "$folder/none"
head -c 2000000 /dev/zero >"$folder/zeros"
refuse "an endless prompt" "more than 1048576 bytes" generate "${common[@]}" --plain --prompt-file "$folder/zeros"
accept "a fixed length" generate "${small[@]}" --prompt "o" --tokens 4 --fixed-length
[ "$(cat "$folder/out")" = "$plain" ] || fail "a fixed length: text differs from '$plain'"
# A model whose norms read values far outside their intervals: the client shows nothing and says so, with a status
# of its own; nothing that is no number passes.
"$make_model" "$folder/broken" 1 8 0.1
broken=(--model "$folder/broken" --threads 1 --prompt "o" --tokens 3)
status=0
generate "${broken[@]}" --parameters test10 --insecure-test >"$folder/out" 2>"$folder/err" || status=$?
[ "$status" -eq 5 ] || fail "a broken model: status $status"
grep -q "untrusted result: a value left its interval at token 1: " "$folder/err" || fail "a broken model: no message"
[ "$(cat "$folder/out")" = "o" ] || fail "a broken model: something was shown"
echo "ok: a broken model: $(tail -1 "$folder/err")"
"$make_model" "$folder/nan" 1 8 1e-60
refuse "a model of NaN" "at token 1: its logits are not finite .first: layer" generate --model "$folder/nan" \
  --plain --prompt "o" --tokens 3

# Simulated runs: sound texts pass without an alarm, whatever they are made of; broken ones fail by name.
"$make_model" "$folder/long" 3 60
python3 - "$folder/kinds.json" <<'P'
import json, random, sys
random.seed(1)
noise = "".join(chr(random.randrange(0x21, 0x2FF)) for _ in range(12))
json.dump(["o" * 40, "|" * 50, "| a | b |\n|---|---|\n| 1 | 2 |\n", "int main(void) { return 0; }\n", "\U0001F600" * 12,
           noise, {"prompt": "3.14159 2.71828 1.41421"}, [1, 2, 3] * 16, list(range(250))[::5]], open(sys.argv[1], "w"))
P
simulate() { "$polyveil" simulate --parameters test13 --tokens 3 --json "$folder/simulated.json" "$@"; }
accept "simulated texts of every kind" simulate --model "$folder/long" --prompts "$folder/kinds.json" --copies
printf '\xff\xfe\x00|' >"$folder/bytes"
accept "a simulated file of bytes" simulate --model "$folder/long" --prompt-file "$folder/bytes"
refuse "a text beyond the context" "prompt [0-9]: .*context 60" "$polyveil" simulate --parameters test13 --tokens 30 \
  --model "$folder/long" --prompts "$folder/kinds.json"
echo '["o", 3]' >"$folder/bad.json"
refuse "a prompt that is none" "prompts.1. is neither" simulate --model "$folder/long" --prompts "$folder/bad.json"
printf o >"$folder/o"
for model in broken nan; do
  refuse "simulating $model" "of 4 tokens: .*(not finite|tokens changed behind)" "$polyveil" simulate --parameters test10 \
    --model "$folder/$model" --prompt-file "$folder/o" --tokens 3 --json "$folder/simulated.json"
done
python3 - "$folder/simulated.json" <<'P'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["not_finite"]["tokens"] == 4 and report["not_finite"]["first"].startswith("layer 0"), report
assert report["equal_tokens"] == 0 and report["largest_logit_error"] == "not finite", report
assert any(site["not_finite"] > 0 and site["first_in_texts"] == 1 for site in report["sites"]), report
P

# Key files: modes, passphrase, use against a running server.
echo "correct horse" >"$folder/pass"
echo "wrong horse" >"$folder/wrong"
accept "keygen" "$polyveil" keygen "${small[@]}" --out "$folder/key"
accept "keygen with a passphrase" "$polyveil" keygen "${small[@]}" --out "$folder/sealed" \
  --passphrase-file "$folder/pass"
for file in key key.eval sealed sealed.eval; do
  [ "$(stat -c %a "$folder/$file")" = 600 ] || fail "$file has mode $(stat -c %a "$folder/$file")"
done
refuse "an existing key" "exists" "$polyveil" keygen "${small[@]}" --out "$folder/key"
# A renewal that ends early leaves the old key, whole, and no parts.
cp "$folder/key" "$folder/before"
before=$(ls "$folder")
for bound in 300 1500; do
  refuse "a renewal on a full disk" "wrote|[Ff]ile" bash -c \
    "ulimit -f $bound; exec '$polyveil' keygen ${small[*]} --force --out '$folder/key'"
  cmp -s "$folder/key" "$folder/before" || fail "a renewal that failed changed the key"
done
"$polyveil" keygen "${small[@]}" --force --out "$folder/key" >/dev/null 2>&1 &
pid=$!
sleep 0.3
kill -9 "$pid" 2>/dev/null || true
wait "$pid" 2>/dev/null || true
accept "info of a renewed key" "$polyveil" info --keys "$folder/key"
: >"$folder/key.part-0123456789ab"  # as a kill between a file's naming and its renaming leaves it
accept "a renewal" "$polyveil" keygen "${small[@]}" --force --out "$folder/key"
cmp -s "$folder/key" "$folder/before" && fail "the key was not renewed"
[ "$(ls "$folder" | grep -v -e out -e err)" = "$(echo "$before" | grep -v -e out -e err)" ] || fail "kill -9 left $(ls "$folder")"
rm "$folder/before"
accept "info of a key" "$polyveil" info --keys "$folder/sealed"
grep -q "encrypted   yes" "$folder/out" || fail "info of a key"
accept "info of a model" "$polyveil" info --model "$folder/model" --parameters test10
accept "plan" "$polyveil" plan --model "$folder/model" --parameters test10 --dump --json "$folder/plan.json"
card() { "$polyveil" plan --model "$1" --parameters test10 --card "$folder/card.md" "${@:2}"; }
accept "a card" card "$folder/model"
grep -q "^| memory of the server | .*(planned) |" "$folder/card.md" || fail "a card: $(cat "$folder/card.md")"
accept "a card with what was measured" card "$folder/model" --run "$folder/run.json"
for line in "a token | .*, the median of 5 (.* planned) |" "checked against float64 | 5 of 5 tokens within what noise allows" \
  'in the clear | of `chat` and the proxy .* (tokens 1 to 1)'; do
  grep -q "^| $line" "$folder/card.md" || fail "a card lacks '$line': $(cat "$folder/card.md")"
done
refuse "a card with another model's run" "run.model.program_digest = " card "$folder/long" --run "$folder/run.json"
echo "{}" >"$folder/no-run"
refuse "a card with no run" "run: .*model" card "$folder/model" --run "$folder/no-run"

"$(dirname "$polyveil")/polyveil-server" --model "$folder/model" --parameters test10 --port 0 --threads 1 \
  --ready-fd 3 3>"$folder/port" &
server_pid=$!
for _ in $(seq 100); do [ -s "$folder/port" ] && break || sleep 0.1; done
url=http://127.0.0.1:$(cat "$folder/port")
remote=(--model "$folder/model" --threads 1 --insecure-test --server "$url" --retry-seconds 1)
accept "info of a server" "$polyveil" info --server "$url" --insecure-test
accept "stored keys" generate "${remote[@]}" --keys "$folder/key" --prompt "o" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "stored keys: text differs from '$plain'"
[ "$(python3 -c "import json;print(json.load(open('$folder/key.uses'))['sessions'])")" = 1 ] || fail "sessions of a key"
sed -i 's/"sessions":1/"sessions":256/' "$folder/key.uses"
accept "a key used often" generate "${remote[@]}" --keys "$folder/key" --prompt "o" --tokens 1
grep -q "warning: .*session 257 .*keygen --force" "$folder/err" || fail "no advice to renew a key"

# Nothing but the server's address: its model's client half comes from it, once.
export XDG_CACHE_HOME=$folder/cache
nothing=(--threads 1 --insecure-test --server "$url" --retry-seconds 1)
accept "a model from its server" generate "${nothing[@]}" --prompt "o" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "a model from its server: text differs from '$plain'"
grep -q "client's half of the model is here" "$folder/err" || fail "nothing was fetched"
[ "$(stat -c %a "$folder"/cache/polyveil/models/*/embed)" = 600 ] || fail "mode of the cache's files"
accept "a model from the cache" generate "${nothing[@]}" --prompt "o" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "a model from the cache: text differs from '$plain'"
grep -q "client's half of the model is here" "$folder/err" && fail "it was fetched again"
printf 'x' >>"$(ls "$folder"/cache/polyveil/models/*/embed)"
accept "a damaged cache" generate "${nothing[@]}" --prompt "o" --tokens 4
[ "$(cat "$folder/out")" = "$plain" ] || fail "a damaged cache: text differs from '$plain'"
refuse "a check without layers" "needs the model's layers" generate "${nothing[@]}" --check --prompt "o"
refuse "a model above the limit" "above the limit of 1000 .*max-model-gigabytes" generate "${nothing[@]}" \
  --cache "$folder/none/models" --max-model-gigabytes 1e-6 --prompt "o"
accept "a cache in the current folder" bash -c \
  "cd '$folder' && exec '$polyveil' generate ${nothing[*]} --cache here --prompt o --tokens 1"
refuse "a cache on a full disk" "embed: cannot write" bash -c \
  "ulimit -f 2; exec '$polyveil' generate ${nothing[*]} --cache '$folder/nospace/models' --prompt o"
refuse "no cache folder" "no cache folder" env -u HOME -u XDG_CACHE_HOME "$polyveil" generate "${nothing[@]}" --prompt "o"

# Turns on one session: keys go up once, a turn goes on where the last one ended.
accept "chat" bash -c "printf 'o\n\no\n/quit\nnever\n' | '$polyveil' chat ${nothing[*]} --tokens 2"
[ "$(head -1 "$folder/out")" = "$(python3 -c "print('$plain'[1:])" | cut -c1-"$(head -1 "$folder/out" | tr -d '\n' | wc -m)")" ] ||
  fail "chat: $(cat "$folder/out")"
[ "$(wc -l <"$folder/out")" -eq 2 ] || fail "chat: two turns gave $(cat "$folder/out")"
[ "$(grep -c "keys are on the server" "$folder/err")" = 1 ] || fail "chat: keys went up more than once"
grep -q "chat: plain form, 8 tokens of context" "$folder/err" || fail "chat: form"
accept "chat to the context's end" bash -c "printf 'ooooooooo\nooo\nooo\nooo\n' | '$polyveil' chat ${nothing[*]} --tokens 2"
grep -q "this turn has 9 tokens, the model's context has room for 7 more" "$folder/err" || fail "chat: a long turn"
grep -q "of the context's 8 tokens are left\|reached the end of the model's context" "$folder/err" || fail "chat: context"
refuse "a system text without a place" "no place for a system" bash -c "'$polyveil' chat ${nothing[*]} --system S </dev/null"
refuse "a public system text without a place" "public: .*no place for a system" "$polyveil" chat "${nothing[@]}" --public S
refuse "two system texts" "excludes" "$polyveil" chat "${nothing[@]}" --public S --system S
# What goes in the clear is said before anything is sent, and nothing does when it must not.
grep -q 'in the clear to the server: tokens 1 to 1, ""' "$folder/err" && fail "a refused chat announced something"
accept "chat says what is public" bash -c "printf 'o\n' | '$polyveil' chat ${nothing[*]} --tokens 1 --show-public"
[ "$(grep -n "in the clear to the server: tokens 1 to 1\|keys are on the server" "$folder/err" | cut -d: -f2 | head -1 | cut -c1-12)" = "in the clear" ] ||
  fail "chat: its head is announced late"
grep -q '^ *256  ""' "$folder/err" || fail "chat: --show-public"
accept "chat with nothing public" bash -c "printf 'o\n' | '$polyveil' chat ${nothing[*]} --tokens 1 --all-private"
grep -q "nothing is sent in the clear" "$folder/err" || fail "chat: --all-private"
held=$(python3 -c "import json,urllib.request;s=json.load(urllib.request.urlopen('$url/v1/status'));print(s['key_sets'],s['sessions'])")
[ "$held" = "0 0" ] || fail "chats left $held on the server"

refuse "keys above the limit" "above the limit of 1000000 .*max-key-gigabytes" generate "${remote[@]}" \
  --max-key-gigabytes 0.001 --prompt "o" --tokens 1
refuse "keys above the limit of keygen" "above the limit" "$polyveil" keygen --server "$url" --insecure-test \
  --max-key-gigabytes 0.001 --out "$folder/toolarge"
refuse "a limit that is no number" "max-key-gigabytes" generate "${remote[@]}" --max-key-gigabytes nan --prompt o
# Interrupted at whatever moment, a run takes its session and keys off the server.
for delay in 0.1 0.3 0.6; do
  "$polyveil" generate "${remote[@]}" --prompt "o" --tokens 7 >/dev/null 2>&1 &
  pid=$!
  sleep "$delay"
  kill -INT "$pid" 2>/dev/null || true
  wait "$pid" || true
  held=$(python3 -c "import json,urllib.request;s=json.load(urllib.request.urlopen('$url/v1/status'));print(s['key_sets'],s['sessions'])")
  [ "$held" = "0 0" ] || fail "interrupted after $delay s: the server holds $held"
done
echo "ok: interrupted runs leave nothing on the server"
accept "sealed keys" generate "${remote[@]}" --keys "$folder/sealed" --passphrase-file "$folder/pass" \
  --prompt "o" --tokens 1
refuse "a wrong passphrase" "passphrase does not open" generate "${remote[@]}" --keys "$folder/sealed" \
  --passphrase-file "$folder/wrong" --prompt "o" --tokens 1
refuse "an insecure set" "insecure" generate --model "$folder/model" --server "$url" --prompt "o" --tokens 1

# Certificates: shown, and a predicted error above the tolerance is refused unless it is accepted.
accept "info without a certificate" "$polyveil" info --model "$folder/model" --parameters test10
grep -q "certificate none" "$folder/out" || fail "info: no certificate"
python3 - "$folder" <<'P'
import json, pathlib, shutil, sys
folder = pathlib.Path(sys.argv[1])
shutil.copytree(folder / "model", folder / "certified")
model = json.loads((folder / "certified/model.json").read_text())
model["certificate"] = {"searched_inputs": 9, "searched_positions": 90, "out_of_range": 3, "worst_outside": 1.2, "changed_tokens": 1,
                        "least_margin": 0.8, "heldout_positions": 50, "heldout_out_of_range": 0, "predicted_logit_error": 1.5}
(folder / "certified/model.json").write_text(json.dumps(model))
P
certified=(--model "$folder/certified" --threads 1 --parameters test10)
accept "info of a certified model" "$polyveil" info "${certified[@]:0:2}" --parameters test10
grep -q "certificate 9 inputs searched (90 positions): 3 out of range" "$folder/out" || fail "info: certificate"
accept "plan of a certified model" "$polyveil" plan "${certified[@]}"
grep -q "predicted error of the logits" "$folder/out" || fail "plan: predicted error"
refuse "a large predicted error" "predicted error of the encrypted logits is 1.5 > 0.05" \
  generate "${certified[@]}" --insecure-test --prompt "o" --tokens 1
refuse "a server of such a model" "predicted error of the encrypted logits is 1.5 > 0.05" \
  "$(dirname "$polyveil")/polyveil-server" "${certified[@]}" --port 0
accept "a large predicted error that is accepted" generate "${certified[@]}" --insecure-test --prompt "o" \
  --tokens 1 --largest-error 2
grep -q "certificate 9 inputs searched" "$folder/err" || fail "generate: certificate"

# Prompts.
refuse "an empty prompt" "empty" generate "${small[@]}" --prompt "" --tokens 1
refuse "a long prompt" "prompt: 9 tokens .*context is 8" generate "${small[@]}" --prompt "oooooooo" --tokens 3
accept "a text to the context's end" generate "${small[@]}" --prompt "oooo" --tokens 30 --json "$folder/run.json"
grep -q "reached the end of the model's context of 8 tokens" "$folder/err" || fail "nothing said of the context's end"
[ "$(python3 -c "import json;r=json.load(open('$folder/run.json'));print(r['end'], r['generated'])")" = "context 4" ] || fail "the context's end"
refuse "an empty stop text" "stop text is empty" generate "${small[@]}" --prompt "o" --stop ""
refuse "a penalty that is none" "repetition-penalty" generate "${small[@]}" --prompt "o" --repetition-penalty 0
refuse "an unknown token" "token 9999 is outside the vocabulary" generate "${small[@]}" \
  --prompt-tokens 9999 --tokens 1
refuse "a negative temperature" "temperature" generate "${small[@]}" --prompt "o" --temperature -1

# Files: truncated, altered, foreign, of other parameters, readable by others, missing.
damaged() { # NAME COMMAND... : copies of the key in NAME and NAME.eval, then the command
  cp "$folder/key" "$folder/$1" && cp "$folder/key.eval" "$folder/$1.eval"
}
use() { generate "${remote[@]}" --keys "$folder/$1" --prompt "o" --tokens 1; }
damaged truncated && truncate -s 100 "$folder/truncated"
refuse "a truncated secret key" "truncated: secret key.*needs" use truncated
damaged flipped && printf '\xff' | dd of="$folder/flipped" bs=1 seek=160 conv=notrunc status=none
refuse "an altered secret key" "checksum" use flipped
damaged short && truncate -s -1 "$folder/short.eval"
refuse "truncated evaluation keys" "short.eval: .* bytes, its manifest says" use short
damaged bits && printf '\x55\xaa\x55\xaa' | dd of="$folder/bits.eval" bs=1 seek=200000 conv=notrunc status=none
refuse "altered evaluation keys" "checksum|outside|residue" use bits
damaged foreign && cp "$folder/sealed.eval" "$folder/foreign.eval"
refuse "another key's evaluation keys" "foreign.eval: .*key id" use foreign
cp "$folder/key" "$folder/open" && chmod 644 "$folder/open"
refuse "a key that others can read" "mode 644" use open
refuse "a missing key" "No such file" use missing
accept "keys of other parameters" "$polyveil" keygen --model "$folder/model" --parameters test11 \
  --insecure-test --out "$folder/test11"
refuse "a key of other parameters" "'test11'.*'test10'" use test11
# --check: a reference that is not what the server computes is noticed by it alone, with both values.
cp -r "$folder/model" "$folder/changed"
python3 - "$folder/changed/model.json" <<'P'
import json, sys
model = json.load(open(sys.argv[1]))
for layer in model["layers"]:
    layer["norm2"]["coeffs"] = [1.1 * c for c in layer["norm2"]["coeffs"]]
json.dump(model, open(sys.argv[1], "w"))
P
changed=(--model "$folder/changed" --threads 1 --insecure-test --server "$url" --prompt "o" --tokens 2)
accept "a changed reference, not asked for" generate "${changed[@]}"
refuse "--check of a changed reference" \
  "check: [1-9] of 3 tokens differ from float64, first token 1: logit error [0-9.e+-]+ > [0-9.e+-]+" \
  generate "${changed[@]}" --check
refuse "another model" "tensors" generate --model "$folder/other" --insecure-test --server "$url" \
  --prompt "o" --tokens 1
refuse "a missing model" "no such model" generate --model "$folder/none" --prompt "o"
head -c 500 "$folder/model/model.safetensors" >"$folder/other/model.safetensors"
refuse "a truncated model" "safetensors|tensor|bytes" generate --model "$folder/other" --plain --prompt "o"

# A full disk while keys are made: the message names the file and the bytes, nothing is left.
refuse "a full disk" "full.eval: wrote [0-9]+ of [0-9]+ bytes" bash -c \
  "ulimit -f 300; exec '$polyveil' keygen --model '$folder/model' --parameters test10 --insecure-test --out '$folder/full'"
[ -z "$(find "$folder" -name 'full*')" ] || fail "a full disk left $(find "$folder" -name 'full*')"

# A server that is not there, is something else, or dies in the middle.
refuse "no server" "connecting" generate --model "$folder/model" --insecure-test --retry-seconds 0.5 --server http://127.0.0.1:1 \
  --prompt "o" --tokens 1
refuse "a wrong URL" "no https://host:port" generate --model "$folder/model" --server "ftp:/x/" --prompt "o" --tokens 1
(sleep 1.5; kill -9 "$server_pid") &
refuse "a server that dies" "$url" bash -c \
  "while '$polyveil' generate --model '$folder/model' --threads 1 --insecure-test --server $url --retry-seconds 1 --prompt o --tokens 7; do :; done;
   exec '$polyveil' generate --model '$folder/model' --threads 1 --insecure-test --server $url --retry-seconds 1 --prompt o --tokens 7"
wait "$server_pid" 2>/dev/null || true
server_pid=

# Ctrl-C: the own server ends, nothing is left.
"$polyveil" generate "${small[@]}" --prompt "o" --tokens 7 >"$folder/out" 2>"$folder/err" &
pid=$!
sleep 0.4
kill -INT "$pid"
status=0
wait "$pid" || status=$?
[ "$status" -eq 130 ] || [ "$status" -eq 0 ] || fail "interrupted: status $status"
sleep 0.3
if pgrep -f -- "--model $folder/model --parameters test10 --port 0 --threads 1 --ready-fd 3 --parent" >/dev/null; then
  fail "an interrupted run left its server"
fi
echo "ok: interrupted with status $status"
