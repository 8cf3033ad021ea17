#!/usr/bin/env bash
# Reproduces models/tiny: data, Power-Softmax, polynomial stage, softmax twin, evaluation, export.
# Usage: scripts/train_tiny.sh STORIES [RUNS]   (interrupted runs go on where they stopped)
set -euo pipefail
stories=${1:?folder of stories: one subfolder a source, *.txt inside}
runs=${2:-run}
root=$(cd "$(dirname "$0")/.." && pwd)
train=${POLYVEIL_TRAIN_BIN:-$root/build/src/train/polyveil-train}
configs=$root/models/configs
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
# OpenBLAS 0.3.21 takes recent AMD processors for Haswell; its AVX-512 kernels are 1.4 x as fast.
if [ -z "${OPENBLAS_CORETYPE:-}" ] && grep -qw avx512dq /proc/cpuinfo; then
  export OPENBLAS_CORETYPE=SkylakeX
fi
[ -e "$runs/data/dataset.json" ] ||
  "$train" prepare --data "$stories" --out "$runs/data" --vocab 4096 --heldout 8
for name in tiny-power tiny-polynomial tiny-softmax; do
  "$train" run --config "$configs/$name.json" --data "$runs/data" --out "$runs" --resume
done
"$train" eval --data "$runs/data" --train-batches 250 "$runs/tiny-softmax/last.pt" \
  "$runs/tiny-power/last.pt" "$runs/tiny-polynomial/last.pt"
"$train" export --checkpoint "$runs/tiny-polynomial/last.pt" --data "$runs/data" \
  --out "$root/models/tiny"
