#!/usr/bin/env bash
# Reproduces models/tiny and its softmax twin: one seed of models/configs/twins.json, its polynomial stage, the export.
# Usage: scripts/train_tiny.sh STORIES [RUNS [PAIRS]]   (interrupted runs go on where they stopped; PAIRS: minimal pairs)
set -euo pipefail
stories=${1:?folder of stories: one subfolder a source, *.txt inside}
runs=${2:-run}
pairs=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
train=${POLYVEIL_TRAIN_BIN:-$root/build/src/train/polyveil-train}
# OpenBLAS 0.3.21 takes recent AMD processors for Haswell; its AVX-512 kernels are 1.4 x as fast.
if [ -z "${OPENBLAS_CORETYPE:-}" ] && grep -qw avx512dq /proc/cpuinfo; then
  export OPENBLAS_CORETYPE=SkylakeX
fi
[ -e "$runs/data/dataset.json" ] ||
  "$train" prepare --data "$stories" --out "$runs/data" --vocab 4096 --heldout 8
twin() {
  "$train" study --config "$root/models/configs/twins.json" --only "$1" --data "$runs/data" --out "$runs/twins" \
    ${pairs:+--pairs "$pairs"}
}
twin norm1-3-divisor-3-of-32-s1    # models/tiny, behind power-s1, its parent
twin softmax-s1
"$train" eval --data "$runs/data" "$runs/twins/softmax-s1/last.pt" "$runs/twins/power-s1/last.pt" \
  "$runs/twins/norm1-3-divisor-3-of-32-s1-polynomial/last.pt"
"$train" export --checkpoint "$runs/twins/norm1-3-divisor-3-of-32-s1-polynomial/last.pt" --data "$runs/twins/data" \
  --out "$root/models/tiny" --replace
