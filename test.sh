#!/usr/bin/env bash
# Installs what is missing, builds everything (the trainer included) and runs every test.
set -euo pipefail
cd "$(dirname "$0")"

scripts/install_packages.sh build test train released
cmake --preset test ${CI:+-DCMAKE_COMPILE_WARNING_AS_ERROR=ON} >/dev/null  # in CI a warning is an error
ninja -C build-test
python3 scripts/check_includes.py
python3 scripts/check_sizes.py
ctest --test-dir build-test -j 2 --output-on-failure "$@"  # each test uses every core and up to 5 GB
