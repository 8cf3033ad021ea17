#!/usr/bin/env bash
# A server that is killed at random moments and started again: its clients lose nothing.
set -euo pipefail
polyveil=$1 server=$2 make_model=$3 source=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$make_model" "$folder/model" 1
"$source/scripts/kill_server.py" "$polyveil" "$server" "$folder/model" --kills "${POLYVEIL_KILLS:-6}" --seconds-between 0.6
