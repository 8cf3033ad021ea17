#!/usr/bin/env bash
# packaging/haproxy.cfg with two servers on a small insecure ring: every client stays on one of them, both have
# clients, and one that is killed and started again goes on with its own.
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
command -v haproxy >/dev/null || PATH=$PATH:/usr/sbin
if ! command -v haproxy >/dev/null; then
  echo "skipped: HAProxy (not installed; apt-get install haproxy)"
  exit 0
fi
folder=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1" >&2
  tail -n 5 "$folder"/*.err >&2 || true
  exit 1
}
read -r front one two < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
# serve NUMBER PORT: its process in pids[NUMBER].
serve() {
  "$server" --model "$folder/model" --parameters test10 --threads 1 --port "$2" --state "$folder/state$1" --allow-host models.example \
    --max-sessions 100 --max-keys 100 2>>"$folder/server$1.err" &
  pids[$1]=$!
}
ready() {
  for _ in $(seq 300); do
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/health/ready")" = 200 ] && return || sleep 0.1
  done
  fail "nothing is ready on port $1"
}
status() { curl -s "http://127.0.0.1:$1/v1/status"; }
ask() {
  "$polyveil" generate --model "$folder/model" --server "http://127.0.0.1:$front" --insecure-test --threads 1 --retry-seconds 60 \
    --prompt "o" "$@" 2>>"$folder/client.err"
}

"$make_model" "$folder/model" 1 48
haproxy -c -f "$source/packaging/haproxy.cfg" >/dev/null || fail "the configuration"
sed -e "s/:8116/:$front/" -e "s/:8117\$/:$one/" -e "s/:8118\$/:$two/" "$source/packaging/haproxy.cfg" >"$folder/haproxy.cfg"
serve 1 "$one"
serve 2 "$two"
ready "$one"
ready "$two"
haproxy -f "$folder/haproxy.cfg" >"$folder/haproxy.err" 2>&1 &
pids[0]=$!
ready "$front"
[ "$(curl -s -H 'Host: models.example' -o /dev/null -w '%{http_code}' "http://127.0.0.1:$front/v1/model")" = 200 ] || fail "the servers' name"

plain=$("$polyveil" generate --model "$folder/model" --plain --prompt "o" --tokens 4)
uploads() { grep -c "path=/v1/keys/complete .*status=200" "$folder/server$1.err" || true; }
clients=0
while [ "$clients" -lt 4 ] || [ "$(uploads 1)" -eq 0 ] || [ "$(uploads 2)" -eq 0 ]; do
  clients=$((clients + 1))
  [ "$clients" -le 24 ] || fail "24 clients on one server"
  [ "$(ask --tokens 4)" = "$plain" ] || fail "client $clients"
done
[ $(($(uploads 1) + $(uploads 2))) -eq "$clients" ] || fail "uploads: $(uploads 1) and $(uploads 2) of $clients clients"
! grep -h "status=404" "$folder"/server?.err || fail "a client on the other server"
echo "ok: $clients clients, $(uploads 1) on the one server and $(uploads 2) on the other"

# The server of a text that is under way is killed and started again.
plain=$("$polyveil" generate --model "$folder/model" --plain --prompt "o" --tokens 40)
ask --tokens 40 >"$folder/text" &
client=$!
busy=
for _ in $(seq 300); do
  for number in 1 2; do
    port=$([ "$number" = 1 ] && echo "$one" || echo "$two")
    ! status "$port" | grep -q '"sessions":1' || busy=$number
  done
  [ -z "$busy" ] && sleep 0.02 || break
done
[ -n "$busy" ] || fail "no session anywhere"
kill -9 "${pids[$busy]}"
wait "${pids[$busy]}" 2>/dev/null || true
sleep 1
serve "$busy" "$([ "$busy" = 1 ] && echo "$one" || echo "$two")"
wait "$client" || fail "the text of a killed server"
[ "$(cat "$folder/text")" = "$plain" ] || fail "the text of a killed server differs"
echo "ok: server $busy was killed and started again, its client went on"
