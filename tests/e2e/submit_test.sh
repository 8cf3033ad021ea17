#!/usr/bin/env bash
# submit and collect on a small insecure ring: the float64 model's text, from a fresh process with the key alone, while
# the server is killed; and what cannot be is refused by name.
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
. "$source/tests/e2e/proxy_programs.sh"
cd "$folder"
"$make_model" model 1 48 4 0
for _ in $(seq 100); do echo -n "on no up upo on noo uppo nou pou onup "; done >text
"$polyveil" fit-choice --model model --text text --tokens 600 >fit.out 2>fit.err || fail "fit-choice"
serve() {  # PORT
  start server "$server" --model model --parameters test10 --threads 1 --choose --state "${state:-state}" --port "$1"
}
serve 0
url=http://127.0.0.1:$port server_port=$port
for key in key other; do
  "$polyveil" keygen --server "$url" --insecure-test --out $key 2>keygen.err || fail "keygen"
done
common=(--insecure-test --cache "$folder/cache" --threads 1)
refused() {  # WORDS COMMAND...
  local status=0 words=$1
  shift
  "$@" >refused.out 2>refused.err || status=$?
  [ "$status" = 1 ] && grep -q "$words" refused.err || fail "status $status, expected 1: $words"
}
refused "submit needs --keys" "$polyveil" submit --server "$url" --prompt up --job job "${common[@]}"
refused "submit needs --server" "$polyveil" submit --keys key --prompt up --job job "${common[@]}"
refused "the context is 48" "$polyveil" submit --server "$url" --keys key --prompt up --tokens 99 --job job "${common[@]}"
for id in 9999 2147483647; do
  refused "token $id is outside the vocabulary" "$polyveil" submit --server "$url" --keys key --prompt-tokens $id --job job "${common[@]}"
done
refused "prompt: it is empty behind its public part" "$polyveil" submit --server "$url" --keys key --public up --job job "${common[@]}"
[ ! -e job ] || fail "a job that was refused"

"$polyveil" submit --server "$url" --keys key --prompt-file <(echo "upo on") --tokens 12 --job job "${common[@]}" 2>submit.err ||
  fail "submit"
refused "another text's only name" "$polyveil" submit --server "$url" --keys key --prompt up --job job "${common[@]}"
# A job whose file cannot be written is taken off the server.
refused "full.job: cannot write" bash -o pipefail -c "(ulimit -f 0; exec '$polyveil' submit --server '$url' --keys other \
  --prompt up --job full.job ${common[*]}) 2>&1 | cat >&2"
[ ! -e full.job ] && [ "$(ls state/jobs | wc -l)" = 1 ] || fail "a full disk left $(ls state/jobs | wc -l) jobs"
[ "$(stat -c %a job)" = 600 ] || fail "the job's file is not its owner's alone"
[ -z "$(find cache -name embed -o -name head)" ] || fail "submit fetched $(find cache -type f)"
! grep -q "upo" submit.err server.err || fail "a prompt in a log"
# The server's disk takes nothing more for a while: the text waits, and goes on.
prlimit --pid "${pids[0]}" --fsize=0:unlimited
for _ in $(seq 100); do
  "$polyveil" collect job --keys key "${common[@]}" 2>waiting.err >early || true
  grep -q "waiting: the disk takes no more" waiting.err && break
  sleep 0.1
done
grep -q "waiting: the disk takes no more" waiting.err || fail "no word of a full disk: $(cat waiting.err)"
prlimit --pid "${pids[0]}" --fsize=unlimited:unlimited
for _ in 1 2 3; do
  sleep 0.7
  kill -9 "${pids[0]}"
  wait "${pids[0]}" 2>/dev/null || true
  pids=()
  serve "$server_port"
  "$polyveil" collect job --keys key "${common[@]}" >early 2>>collect.err || fail "collecting early"
done
"$polyveil" collect job --keys key --wait --json found "${common[@]}" >text.out 2>>collect.err || fail "collect"
"$polyveil" generate --model model --plain --prompt "upo on" --tokens 12 >plain
cmp text.out plain || fail "the text is not the float64 model's: $(cat text.out)"
python3 -c 'import json; r = json.load(open("found")); assert r["state"] == "done" and r["chosen"] == 12 == len(r["tokens"]), r'
echo "ok: the float64 model's text, through three kills"

refused "the job is of key" "$polyveil" collect job --keys other "${common[@]}"
refused "collect needs --keys" "$polyveil" collect job "${common[@]}"
sed 's/"job": "[0-9a-f]*"/"job": "0123"/' job >unknown
refused "is not here" "$polyveil" collect unknown --keys key "${common[@]}"
echo '{"format":"polyveil-job/1"}' >broken
refused "server" "$polyveil" collect broken --keys key "${common[@]}"
"$polyveil" collect job --keys key --remove "${common[@]}" >again 2>>collect.err && cmp again plain || fail "--remove"
[ -z "$(ls state/jobs)" ] || fail "a removed job is on the disk"
kill -TERM "${pids[0]}"
wait "${pids[0]}" || fail "the server's end"
pids=()

# A last root that is too small leaves bits that one clean-up does not round: every choice is undecided, and the client
# goes on by itself.
"$polyveil" fit-choice --model model --text text --tokens 600 --cleanups 1 >fit.out 2>fit.err || fail "fit-choice --cleanups"
python3 - <<'PY'
import json
choice = json.load(open("model/choice.json"))
last = choice["rounds"][-1]
last = last.get("correction") or last
last["coeffs"] = [0.7 * c for c in last["coeffs"]]
json.dump(choice, open("model/choice.json", "w"))
PY
state=undecided serve 0
url=http://127.0.0.1:$port
"$polyveil" keygen --server "$url" --insecure-test --out rough 2>keygen.err || fail "keygen"
"$polyveil" submit --server "$url" --keys rough --prompt "upo on" --tokens 4 --job rough.job "${common[@]}" 2>submit.err ||
  fail "submit"
status=0
"$polyveil" collect rough.job --keys rough --wait "${common[@]}" >text.out 2>collect.err || status=$?
[ "$status" = 5 ] && grep -q "undecided at token" collect.err || fail "status $status of an undecided choice"
"$polyveil" collect rough.job --keys rough --wait --continue --json found "${common[@]}" >text.out 2>collect.err ||
  fail "--continue: $(cat collect.err)"
"$polyveil" generate --model model --plain --prompt "upo on" --tokens 4 >plain
cmp text.out plain || fail "what was continued is not the float64 model's: $(cat text.out)"
python3 -c 'import json; r = json.load(open("found")); assert len(r["tokens"]) == 4 and not r["undecided"], r'
kill -TERM "${pids[0]}"
wait "${pids[0]}" || fail "the server's end"
pids=()
echo "ok: an undecided text goes on"
start stateless "$server" --model model --parameters test10 --threads 1 --choose --port 0
refused "keeps no state" "$polyveil" submit --server "http://127.0.0.1:$port" --keys rough --prompt up --job job2 "${common[@]}"
echo "ok: refusals, removal"
