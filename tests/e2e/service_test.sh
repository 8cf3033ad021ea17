#!/usr/bin/env bash
# TLS and accounts of the programs: certificates that do not fit, clients without one, tokens, addresses that plain
# HTTP is refused on.
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
folder=$(mktemp -d)
pid=
cleanup() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1" >&2
  tail -n 5 "$folder/err" "$folder/server.err" >&2 || true
  exit 1
}
# start OPTION...: the server in the background; sets pid and port.
start() {
  : >"$folder/port"
  "$server" --model "$folder/model" --parameters test10 --threads 1 --port 0 --ready-fd 3 "$@" \
    3>"$folder/port" 2>"$folder/server.err" &
  pid=$!
  for _ in $(seq 600); do [ -s "$folder/port" ] && break || sleep 0.1; done
  port=$(cat "$folder/port")
  [ -n "$port" ] || fail "no server with $*"
}
stop() {
  kill "$pid"
  wait "$pid" || fail "the server's end"
  pid=
}
# ask URL OPTION...: a text of the server.
ask() {
  local url=$1
  shift
  "$polyveil" generate --model "$folder/model" --insecure-test --threads 1 --retry-seconds 1 --prompt "o" --tokens 2 \
    --server "$url" "$@" >"$folder/out" 2>"$folder/err"
}
accept() {
  local what=$1
  shift
  ask "$@" || fail "$what"
  cmp -s "$folder/out" "$folder/plain" || fail "$what: another text"
  echo "ok: $what"
}
# refuse WHAT PATTERN URL OPTION...
refuse() {
  local what=$1 pattern=$2 status=0
  shift 2
  ask "$@" || status=$?
  [ "$status" -ne 0 ] || fail "$what: accepted"
  [ "$status" -lt 126 ] || fail "$what: status $status"
  grep -q "$pattern" "$folder/err" || fail "$what: no '$pattern'"
  echo "ok: $what: $(tail -1 "$folder/err")"
}
# certificate NAME SUBJECT-ALTERNATIVE-NAME AUTHORITY
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$folder/$1.key" -out "$folder/$1.csr" \
    -subj "/CN=$1" 2>/dev/null
  openssl x509 -req -in "$folder/$1.csr" -CA "$folder/$3.pem" -CAkey "$folder/$3.key" -CAcreateserial -days 2 \
    -extfile <(echo "subjectAltName=$2") -out "$folder/$1.pem" 2>/dev/null
}
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$folder/$1.key" \
    -out "$folder/$1.pem" -days 2 -subj "/CN=$1" 2>/dev/null
}

"$make_model" "$folder/model" 1
"$polyveil" generate --model "$folder/model" --plain --prompt "o" --tokens 2 >"$folder/plain"
authority ours
authority theirs
certificate localhost "DNS:localhost,IP:127.0.0.1" ours
certificate other "DNS:other.example" ours
certificate client "DNS:client" ours
certificate stranger "DNS:client" theirs

tls=(--tls-certificate "$folder/localhost.pem" --tls-key "$folder/localhost.key")
start "${tls[@]}"
accept "https by name" "https://localhost:$port" --ca "$folder/ours.pem"
accept "https by number" "https://127.0.0.1:$port" --ca "$folder/ours.pem"
refuse "an authority that is not the system's" "certificate verify failed" "https://localhost:$port"
refuse "another authority" "certificate verify failed" "https://localhost:$port" --ca "$folder/theirs.pem"
refuse "plain HTTP to a server with TLS" "http://localhost" "http://localhost:$port"
for version in -tls1 -tls1_1; do
  if openssl s_client -connect "localhost:$port" "$version" -cipher ALL:@SECLEVEL=0 </dev/null >"$folder/out" 2>&1; then
    ! grep -q "Cipher is [A-Z]" "$folder/out" || fail "$version is spoken"
  fi
done
echo | openssl s_client -connect "localhost:$port" -tls1_2 >"$folder/out" 2>&1 || fail "TLS 1.2"
# Noise and silence in place of a handshake harm nobody.
for i in $(seq 20); do head -c 300 /dev/urandom >"/dev/tcp/localhost/$port" || true; done
exec 4<>"/dev/tcp/localhost/$port"
accept "beside a handshake that does not come" "https://localhost:$port" --ca "$folder/ours.pem"
exec 4>&-
stop
start --tls-certificate "$folder/other.pem" --tls-key "$folder/other.key"
refuse "a certificate of another name" "certificate verify failed" "https://localhost:$port" --ca "$folder/ours.pem"
stop
start "${tls[@]}" --tls-client-ca "$folder/ours.pem"
refuse "a client without a certificate" "https://localhost" "https://localhost:$port" --ca "$folder/ours.pem"
refuse "a stranger's certificate" "https://localhost" "https://localhost:$port" --ca "$folder/ours.pem" \
  --client-certificate "$folder/stranger.pem" --client-key "$folder/stranger.key"
accept "both sides' certificates" "https://localhost:$port" --ca "$folder/ours.pem" \
  --client-certificate "$folder/client.pem" --client-key "$folder/client.key"
stop

# Accounts.
token=$("$server" --accounts "$folder/accounts.json" --new-account ann)
(umask 077 && echo "$token" >"$folder/token" && echo "pv_wrong" >"$folder/wrong")
! grep -q "$token" "$folder/accounts.json" || fail "a token in the file of accounts"
start "${tls[@]}" --accounts "$folder/accounts.json"
refuse "no token" "no token of an account" "https://localhost:$port" --ca "$folder/ours.pem"
refuse "a wrong token" "no token of an account" "https://localhost:$port" --ca "$folder/ours.pem" --token-file "$folder/wrong"
accept "a token" "https://localhost:$port" --ca "$folder/ours.pem" --token-file "$folder/token"
POLYVEIL_TOKEN=$token accept "a token of the environment" "https://localhost:$port" --ca "$folder/ours.pem"
! grep -q "$token" "$folder/server.err" || fail "a token in the log"
chmod 0644 "$folder/token"
refuse "a token that others may read" "security" "https://localhost:$port" --ca "$folder/ours.pem" --token-file "$folder/token"
"$server" --accounts "$folder/accounts.json" --new-account ann >"$folder/token2"
chmod 0600 "$folder/token" "$folder/token2"
for _ in $(seq 50); do ask "https://localhost:$port" --ca "$folder/ours.pem" --token-file "$folder/token2" && break || sleep 0.2; done
refuse "a renewed account's old token" "no token" "https://localhost:$port" --ca "$folder/ours.pem" --token-file "$folder/token"
stop

# Health, metrics, a log that tells no names; options of a file and of the environment.
cat >"$folder/server.conf" <<C
model = "$folder/model"
parameters = test10
max-keys = 3
C
"$server" --config "$folder/server.conf" --check-config >"$folder/out" || fail "a right configuration"
printf 'no-such-option = 3\n' | cat "$folder/server.conf" - >"$folder/wrong.conf"
for wrong in "--config $folder/wrong.conf" "--config $folder/none.conf" "--config $folder/server.conf --max-keys x"; do
  # shellcheck disable=SC2086
  "$server" $wrong --check-config >"$folder/out" 2>&1 && fail "a wrong configuration: $wrong"
done
POLYVEIL_SERVER_MAX_CONNECTIONS=none "$server" --config "$folder/server.conf" --check-config >"$folder/out" 2>&1 &&
  fail "a wrong variable"
POLYVEIL_SERVER_MAX_SESSIONS=7 start --config "$folder/server.conf" --accounts "$folder/accounts.json" --state "$folder/state"
url=http://127.0.0.1:$port
for path in live ready; do
  for _ in $(seq 50); do [ "$(curl -s -o "$folder/out" -w '%{http_code}' "$url/health/$path")" = 200 ] && break || sleep 0.1; done
  grep -q '"status":"ok"' "$folder/out" || fail "health/$path"
done
[ "$(curl -s -o "$folder/out" -w '%{http_code}' "$url/metrics")" = 401 ] || fail "metrics without a token"
accept "a token beside a configuration file" "$url" --token-file "$folder/token2"
auth="Authorization: Bearer $(cat "$folder/token2")"
curl -s -H "$auth" "$url/metrics" >"$folder/metrics"
for line in 'polyveil_tokens_total [1-9]' 'polyveil_bootstraps_total' 'polyveil_component_seconds_bucket{component="norm"' \
  'polyveil_memory_bytes{kind="process, peak resident"}' 'polyveil_rejected_total{code="401"} [1-9]' \
  'polyveil_requests_total{method="POST",route="/v1/sessions/step",code="200"}'; do
  grep -q "$line" "$folder/metrics" || fail "no metric $line"
done
id=$(curl -s -D - -o "$folder/out" -H "$auth" "$url/v1/model" | tr -d '\r' | sed -n 's/^X-Request-Id: //p')
grep -q "request id=$id method=GET path=/v1/model account=ann status=200" "$folder/server.err" || fail "no line of request $id"
handle=$(curl -s -H "$auth" "$url/v1/keys" -d '{"key_id":"'"$(printf '%064d' 0)"'","total_bytes":'"$(
  python3 -c 'import json, sys; print(json.load(sys.stdin)["key_stream_bytes"])' <"$folder/out")"'}' | grep -o '[0-9a-f]\{32\}')
curl -s -H "$auth" -H "X-Polyveil-Handle: $handle" "$url/v1/keys" | grep -q "$handle" || fail "an upload"
! grep -qE "$handle|$(cat "$folder/token2")" "$folder/server.err" || fail "a name or a token in the log"
stop
echo "ok: operation"

# The unit, with the program where it is.
if command -v systemd-analyze >/dev/null; then
  sed -e "s|/usr/bin/polyveil-server|$(realpath "$server")|" -e '/^Documentation/d' "$source/packaging/polyveil-server.service" \
    >"$folder/polyveil-server.service"
  systemd-analyze verify "$folder/polyveil-server.service" >"$folder/out" 2>&1 || fail "the unit: $(cat "$folder/out")"
  exposure=$(systemd-analyze security --offline=yes "$folder/polyveil-server.service" 2>&1 | tail -1)
  case "$exposure" in *" OK "*) echo "ok: the unit: $exposure" ;; *) fail "the unit: $exposure" ;; esac
else
  echo "skipped: the unit (no systemd-analyze here)"
fi

# Plain HTTP beyond this machine.
"$server" --model "$folder/model" --parameters test10 --bind 0.0.0.0 --port 0 >"$folder/out" 2>"$folder/server.err" &&
  fail "plain HTTP on every address"
grep -q "without TLS" "$folder/server.err" || fail "plain HTTP's message"
start --bind 0.0.0.0 --plain-http
accept "plain HTTP where it is asked for" "http://127.0.0.1:$port"
stop
refuse "plain HTTP to another machine" "without TLS" "http://192.0.2.1:1"
for wrong in "--tls-certificate $folder/none.pem --tls-key $folder/localhost.key" \
  "--tls-certificate $folder/localhost.pem" "--tls-certificate $folder/localhost.pem --tls-key $folder/other.key" \
  "--accounts $folder/none.json" "--accounts $folder/localhost.pem"; do
  # shellcheck disable=SC2086
  "$server" --model "$folder/model" --parameters test10 --port 0 $wrong >"$folder/out" 2>"$folder/server.err" && fail "$wrong"
  echo "ok: $(tail -1 "$folder/server.err")"
done
