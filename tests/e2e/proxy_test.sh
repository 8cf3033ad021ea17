#!/usr/bin/env bash
# polyveil proxy before a real server on a small insecure ring: shapes of requests that clients send, and the
# official `openai` package where it can be had (its part is skipped, by name, otherwise).
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
. "$source/tests/e2e/proxy_programs.sh"
"$make_model" "$folder/model" 1 48
start server "$server" --model "$folder/model" --parameters test10 --threads 1 --port 0
server_port=$port
start proxy "$polyveil" proxy --server "http://127.0.0.1:$server_port" --cache "$folder/cache" --insecure-test --threads 1 --port 0
proxy=http://127.0.0.1:$port

python3 "$source/tests/e2e/proxy_requests.py" "$proxy" "http://127.0.0.1:$server_port" || fail "requests"
python3 "$source/tests/e2e/proxy_requests.py" "$proxy" --text "o" >"$folder/text"
"$polyveil" generate --model "$folder/model" --plain --prompt "o" --tokens 6 | cut -c2- >"$folder/plain"
cmp "$folder/text" "$folder/plain" || fail "the proxy's text is not the float64 model's"
echo "ok: the float64 model's text"

# The template's head is public, and said so; with --all-private nothing is. The text is the same.
grep -q 'in the clear to the server: tokens 1 to ' "$folder/proxy.err" || fail "the head is not announced"
start private "$polyveil" proxy --server "http://127.0.0.1:$server_port" --cache "$folder/cache" --insecure-test --threads 1 --port 0 --all-private
grep -q 'nothing is sent in the clear' "$folder/private.err" || fail "--all-private"
chat() {  # PROXY: how many tokens of the prompt were there already, and the text
  curl -sf "$1/v1/chat/completions" -d '{"model":"model","max_tokens":3,"temperature":0,"messages":[{"role":"user","content":"upo"}]}' |
    python3 -c 'import json, sys
answer = json.load(sys.stdin)
print(answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["message"]["content"])'
}
known=$(chat "$proxy") hidden=$(chat "http://127.0.0.1:$port")
[ "${known%% *}" -gt 0 ] && [ "${hidden%% *}" = 0 ] && [ "${known#* }" = "${hidden#* }" ] ||
  fail "a public head: '$known' and '$hidden'"
kill -INT "${pids[2]}"
wait "${pids[2]}" || fail "the private proxy's end"
unset "pids[2]"
echo "ok: the template's head in the clear or not"

python=$("$source/tests/e2e/openai_python.sh" "${POLYVEIL_OPENAI:-$folder/openai}" 2>"$folder/pip.err") || python=
if [ -n "$python" ]; then
  "$python" "$source/tests/e2e/proxy_openai.py" "$proxy/v1" || fail "the openai package"
else
  echo "skipped: the openai package (it cannot be installed here: $(tail -1 "$folder/pip.err"))"
fi
# The page, where a browser is installed (scripts/install_packages.sh browser).
if browser=$(command -v chromium); then
  python3 "$source/tests/e2e/page_test.py" "$browser" "$proxy" "${POLYVEIL_SCREENSHOTS:-$folder/shots}" || fail "the page"
else
  echo "skipped: the page (no chromium here)"
fi
! grep -q "upon" "$folder/server.err" "$folder/proxy.err" || fail "a prompt in a log"

# Ctrl-C while a text runs: it ends, and takes its keys off the server.
model=$(curl -s "$proxy/v1/models" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
(curl -sN "$proxy/v1/completions" -d '{"model":"'"$model"'","prompt":"o","max_tokens":40,"stream":true}' >/dev/null || true) &
sleep 0.3
kill -INT "${pids[1]}"
status=0
wait "${pids[1]}" || status=$?
[ "$status" -eq 0 ] || fail "Ctrl-C: status $status"
curl -s "http://127.0.0.1:$server_port/v1/status" | grep -q '"key_sets":0' || fail "keys are left on the server"
echo "ok: Ctrl-C"
