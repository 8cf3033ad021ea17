#!/usr/bin/env bash
# polyveil proxy before an encoder on a small insecure ring: /v1/embeddings by plain requests, by curl and by the
# official `openai` package where it can be had; the page; a server that is killed and started again without its state.
set -euo pipefail
polyveil=$1 server=$2 source=$3
. "$source/tests/e2e/proxy_programs.sh"
"$source/scripts/make_random_checkpoint.py" "$folder/bert" --shape toy-bert >/dev/null
"$polyveil" fit "$folder/bert" --out "$folder/encoder" --tokens 96 --window 12 --heldout 24 --margin 2 \
  --norm-degree 7 --divisor-degree 7 --activation-degree 7 >/dev/null 2>"$folder/fit.err" || fail "fit"
printf 'once upon\na time\nthere was\n' >"$folder/lines"
"$polyveil" embed --model "$folder/encoder" --parameters test10 --insecure-test --threads 1 --text-file "$folder/lines" \
  --json "$folder/embed.json" >/dev/null 2>"$folder/embed.err" || fail "embed"
start server "$server" --model "$folder/encoder" --parameters test10 --threads 1 --port 0
server_port=$port
start proxy "$polyveil" proxy --server "http://127.0.0.1:$server_port" --cache "$folder/cache" --insecure-test --threads 1 --port 0
proxy=http://127.0.0.1:$port

python=$("$source/tests/e2e/openai_python.sh" "${POLYVEIL_OPENAI:-$folder/openai}" 2>"$folder/pip.err") || python=python3
"$python" "$source/tests/e2e/proxy_embeddings.py" "$proxy" "http://127.0.0.1:$server_port" "$folder/embed.json" || fail "embeddings"

curl -sf "$proxy/v1/embeddings" -H 'Content-Type: application/json' -d '{"model": "encoder", "input": ["once", "upon"]}' |
  grep -q '"index":1' || fail "curl's embeddings"
if browser=$(command -v chromium); then
  python3 "$source/tests/e2e/page_test.py" "$browser" "$proxy" "${POLYVEIL_SCREENSHOTS:-$folder/shots}" || fail "the page"
else
  echo "skipped: the page (no chromium here)"
fi
# A server that has lost all: it gets the keys again.
kill -9 "${pids[0]}"
wait "${pids[0]}" 2>/dev/null || true
start server "$server" --model "$folder/encoder" --parameters test10 --threads 1 --port "$server_port"
curl -sf "$proxy/v1/embeddings" -d '{"model": "encoder", "input": "once"}' | grep -q '"total_tokens"' || fail "behind a new server"
echo "ok: a server started anew without its state"
! grep -q "upon" "$folder/server.err" "$folder/proxy.err" || fail "a text in a log"
if "$polyveil" proxy --server "http://127.0.0.1:$server_port" --cache "$folder/cache" --insecure-test --pooling max 2>"$folder/error"; then
  fail "an unknown pooling"
fi
echo "ok: proxy before an encoder"
