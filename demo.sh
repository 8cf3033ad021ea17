#!/usr/bin/env bash
# Installs what is missing, builds, and continues a prompt on ciphertexts with the embedded model: 128-bit security,
# N = 2^16, the server in a process of its own. Arguments go to `polyveil generate`.
set -euo pipefail
cd "$(dirname "$0")"

scripts/install_packages.sh build
if [ ! -f build/build.ninja ]; then
  cmake -G Ninja -S . -B build -DPOLYVEIL_TESTS=OFF -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_UNITY_BUILD_BATCH_SIZE=24 >build.log 2>&1 || { cat build.log >&2; exit 1; }
fi
echo "Building (some minutes on two cores) ..."
ninja -C build polyveil polyveil-server >build.log 2>&1 || { tail -50 build.log >&2; exit 1; }
rm -f build.log

if [ $# -eq 0 ]; then
  set -- --prompt "Once upon a time" --tokens 8 --check
fi
exec build/tools/polyveil generate "$@"
