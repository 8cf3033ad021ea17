#!/usr/bin/env bash
# Polyveil and its peers from PyPI in one environment (build-peers/), then compare.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -d build-peers ] || python3 -m venv build-peers
build-peers/bin/pip install -q ./bindings/python desilofhe tenseal
exec build-peers/bin/python bench/peers/compare.py "$@"
