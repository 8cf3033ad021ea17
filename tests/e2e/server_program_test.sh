#!/usr/bin/env bash
# polyveil-server as a program: addresses that it listens on, names that it answers to, signals.
set -euo pipefail
server=$1 make_model=$2 polyveil=$3
folder=$(mktemp -d)
pid=
cleanup() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
"$make_model" "$folder/model" 1

fail() {
  echo "FAILED: $1" >&2
  cat "$folder/err" >&2 || true
  exit 1
}
# start OPTION...: the server in the background; sets pid and port.
start() {
  : >"$folder/port"
  "$server" --model "$folder/model" --parameters test10 --threads 1 --port 0 --ready-fd 3 "$@" \
    3>"$folder/port" 2>"$folder/err" &
  pid=$!
  for _ in $(seq 600); do [ -s "$folder/port" ] && break || sleep 0.1; done
  port=$(cat "$folder/port")
  [ -n "$port" ] || fail "no server with $*"
}
# ends SIGNAL STATUS: the server ends by it, soon, with the status.
ends() {
  local status=0 begin=$SECONDS
  kill "-$1" "$pid"
  wait "$pid" || status=$?
  pid=
  [ "$status" -eq "$2" ] || fail "$1: status $status, expected $2"
  [ $((SECONDS - begin)) -le 10 ] || fail "$1: $((SECONDS - begin)) s"
}
# answer HOST PATH FIELD...: the status of the reply.
answer() {
  python3 - "$@" <<'P'
import http.client, sys
host, port, path, *fields = sys.argv[1:]
connection = http.client.HTTPConnection(host, int(port), timeout=60)
connection.putrequest("GET", path, skip_host=any(f.startswith("Host:") for f in fields))
for field in fields:
    connection.putheader(*field.split(": ", 1))
connection.endheaders()
print(connection.getresponse().status)
P
}
expect() {
  local status=$1
  shift
  [ "$(answer "$@")" = "$status" ] || fail "not $status: $*"
}

start --bind localhost --allow-host models.example
expect 200 localhost "$port" /v1/model
expect 200 127.0.0.1 "$port" /v1/model "Host: models.example"
expect 403 127.0.0.1 "$port" /v1/model "Host: evil.example"
expect 403 127.0.0.1 "$port" /v1/model "Origin: http://evil.example"
expect 404 127.0.0.1 "$port" /v1/nothing
ends TERM 0
if [ -e /proc/net/if_inet6 ] && python3 -c "import socket; socket.socket(socket.AF_INET6).bind(('::1', 0))" 2>/dev/null; then
  for address in ::1 "[::1]"; do
    start --bind "$address"
    expect 200 ::1 "$port" /v1/model
    ends INT 0
  done
fi
echo "ok: addresses and names"

"$server" --model "$folder/model" --parameters test10 --threads 1 --bind no.such.name.invalid >"$folder/out" 2>"$folder/err" && fail "a wrong name"
grep -q "bind address 'no.such.name.invalid'" "$folder/err" || fail "a wrong name's message"

# A step is under way: its client learns of it, the server ends.
start
(while "$polyveil" generate --model "$folder/model" --threads 1 --insecure-test --server "http://127.0.0.1:$port" \
  --prompt o --tokens 7; do :; done) >/dev/null 2>&1 &
client=$!
sleep 1.5
ends TERM 0
wait "$client" || true
echo "ok: signals"
