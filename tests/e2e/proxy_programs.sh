# Sourced by the proxy's tests: programs beside each other in a folder of their own, which goes with them at the end.
folder=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1" >&2
  tail -n 20 "$folder"/*.err >&2 || true
  exit 1
}
# start NAME COMMAND...: in the background; its port, once it is ready, in $port.
start() {
  local name=$1
  shift
  : >"$folder/$name.port"
  "$@" --ready-fd 3 3>"$folder/$name.port" 2>"$folder/$name.err" &
  pids+=($!)
  for _ in $(seq 600); do [ -s "$folder/$name.port" ] && break || sleep 0.1; done
  port=$(cat "$folder/$name.port")
  [ -n "$port" ] || fail "no $name"
}
