#!/usr/bin/env bash
# Short versions of what is run by hand for minutes: a soak, and a crowd of idle and slow connections.
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$make_model" "$folder/model" 1
"$source/scripts/crowd_server.py" "$server" "$folder/model" --connections 400 --seconds 4
"$source/scripts/soak_server.py" "$polyveil" "$server" "$folder/model" --minutes "${POLYVEIL_SOAK_MINUTES:-0.12}" --clients 4 \
  --proxy-clients 1 --warm-up 0.08
