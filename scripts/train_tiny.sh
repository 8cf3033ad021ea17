#!/usr/bin/env bash
# Reproduces models/tiny and its softmax twin: one seed of models/configs/twins.json, its polynomial stage, rounds of
# search and training on what the search finds, the export, and the search that judges it.
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
twins=$runs/twins data=$runs/twins/data
twin() {
  "$train" study --config "$root/models/configs/twins.json" --only "$1" --data "$runs/data" --out "$twins" \
    ${pairs:+--pairs "$pairs"}
}
twin norm1-3-divisor-3-of-32-s1    # the stage of 18 levels a block, behind power-s1
twin softmax-s1

found=()
# NAME PARENT SEED INPUTS SWAPS: the worst inputs of a parent, SWAPS of them by exchanged tokens.
look() {
  [ -e "$twins/search-$1.json" ] ||
    "$train" search --model "$twins/$2/last.pt" --data "$data" --inputs "$4" --seed "$3" --swap-share "$5" --threads 2 \
      --json "$twins/search-$1.json"
  found+=("search-$1.json")
}
# CONFIG NAME PARENT SEED STEPS MUON ADAM MARGIN RATIO [REACH]: trains on all finds so far. RATIO of the divisors'
# intervals: laid anew; REACH times further at their high end.
harden() {
  python3 - "$root/models/configs/$1.json" "${@:2:8}" "${10:-1}" "${found[@]}" >"$twins/$2.json" <<'PY'
import json, sys
path, name, parent, seed, steps, muon, adam, margin, ratio, reach, *found = sys.argv[1:]
config = json.load(open(path))
config.update(name=name, seed=int(seed), steps=int(steps), init_from=f"{parent}/last.pt")
config["optimizer"].update(muon_lr=float(muon), adam_lr=float(adam))
config["range"]["interval_margin"] = float(margin)
config["polynomial"]["hard_files"] = found
if float(ratio) > 0:
    config["polynomial"].update(divisor_ratio=float(ratio), divisor_reach=float(reach), refit_fraction=1 / int(steps),
                                calibration_batches=60)
json.dump(config, sys.stdout, indent=1)
PY
  "$train" run --config "$twins/$2.json" --data "$data" --out "$twins" --resume
}
look 0 norm1-3-divisor-3-of-32-s1-polynomial 1 12000 0.25
harden tiny-hard hard1 norm1-3-divisor-3-of-32-s1-polynomial 11 800 0.002 0.0004 1.5 0
look 1 hard1 2 20000 0.25
harden tiny-hard hard2 hard1 12 1200 0.002 0.0004 1.8 0
look 2 hard2 3 40000 0.25
harden tiny-hard hard3 hard2 13 800 0.0015 0.0003 2.0 0
look 3 hard3 5 60000 0.25
harden tiny-hard hard4 hard3 14 1000 0.002 0.0004 2.0 64
look 4 hard4 6 60000 0.25
look 4b hard4 7 40000 0.7
harden tiny-hard hard5 hard4 15 800 0.002 0.0004 2.0 0
look 5 hard5 8 60000 0.4
harden tiny-hard hard6 hard5 16 700 0.0015 0.0003 2.2 0
look 6 hard6 9 60000 0.4
harden tiny-climb hard7 hard6 17 1200 0.002 0.0004 3.0 128    # rows that climb, divisors' inverses bounded far out
look 7 hard7 9 40000 0.5
look 7b hard7 100 1000000 0.25
harden tiny-climb hard8 hard7 19 1200 0.002 0.0004 3.0 128 2  # and divisors' intervals twice as far at the high end

"$train" eval --data "$data" "$twins/softmax-s1/last.pt" "$twins/power-s1/last.pt" "$twins/hard8/last.pt"
"$train" export --checkpoint "$twins/hard8/last.pt" --data "$data" --out "$root/models/tiny" --replace
"$train" search --model "$root/models/tiny" --data "$data" --inputs 1000000 --seed 200 --threads 2 --certify
