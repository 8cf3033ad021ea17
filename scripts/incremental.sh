#!/usr/bin/env bash
# What a change costs in the developer's configuration: builds it, touches each FILE in turn and times the build.
# incremental.sh [FILE...], by default one source of ckks and the header of architectures.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- src/ckks/evaluator.cc src/model/formats/architecture.h
cmake --preset dev >/dev/null
ninja -C build-dev >/dev/null
for file in "$@"; do
  # ccache would find the same content again.
  touch "$file"
  TIMEFORMAT="$file: %R s (%U s of CPU)"
  time CCACHE_DISABLE=1 ninja -C build-dev | tail -1
done
