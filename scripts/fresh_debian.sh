#!/usr/bin/env bash
# The four examples, the tour in Python and the command line on a bare Debian 12, from packages alone; all texts
# must be equal: fresh_debian.sh ROOT PACKAGES MODEL [SET_FOR_TESTS]
#
# ROOT: what `debootstrap --variant=minbase bookworm ROOT` made. PACKAGES: a folder of polyveil*.deb (`ninja -C
# build-packages package`) and of the wheel with what it needs (`pip wheel -w PACKAGES ./bindings/python`).
# SET: test11, with a model of tests/e2e/make_random_model. Without it: the secure parameters (minutes, 6 GB). Needs root; Debian's packages come from the network.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(realpath "$1")
packages=$(realpath "$2")
model=$(realpath "$3")
parameters=${4:-}

inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
said() { printf '%-22s' "$1"; shift; "$@"; }

rm -rf "$root/tmp/polyveil"
mkdir -p "$root/tmp/polyveil"
cp "$packages"/*.deb "$packages"/*.whl "$root/tmp/polyveil"
cp -r "$model" "$root/tmp/polyveil/model"
mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT

inside apt-get update -qq
inside sh -c 'apt-get install -y -qq --no-install-recommends /tmp/polyveil/*.deb g++ cmake ninja-build python3-venv >/tmp/polyveil/apt 2>&1 ||
  { tail -20 /tmp/polyveil/apt; exit 1; }'
inside sh -c 'cmake -G Ninja -S /usr/share/doc/polyveil-dev/examples -B /tmp/polyveil/build >/dev/null && ninja -C /tmp/polyveil/build'
inside sh -c 'python3 -m venv /tmp/polyveil/venv && /tmp/polyveil/venv/bin/pip install -q --no-index --find-links /tmp/polyveil polyveil'

set=()
[ -z "$parameters" ] || set=("$parameters")
for example in refresh private_dot_product polynomial_model; do
  said "$example:" inside "/tmp/polyveil/build/$example" "${set[@]}" | tail -1
done
inside /tmp/polyveil/build/client /tmp/polyveil/model on "${set[@]}" 2>/dev/null >"$root/tmp/polyveil/client"
inside /tmp/polyveil/venv/bin/python /usr/share/doc/polyveil-dev/examples/tour.py /tmp/polyveil/model "${set[@]}" |
  tee "$root/tmp/polyveil/tour"
insecure=()
[ -z "$parameters" ] || insecure=(--parameters "$parameters" --insecure-test)
inside polyveil generate --model /tmp/polyveil/model "${insecure[@]}" --prompt on --tokens 4 2>/dev/null >"$root/tmp/polyveil/cli"
python3 - "$root/tmp/polyveil" <<'PYTHON'
import ast, pathlib, re, sys
folder = pathlib.Path(sys.argv[1])
cli = folder.joinpath("cli").read_text().strip("\n")
client = folder.joinpath("client").read_text().strip("\n")
tour = ast.literal_eval(re.search(r"^('.*?'|\".*?\") float64:", folder.joinpath("tour").read_text(), re.M)[1])
print(f"command line: {cli!r}; client: {client!r}; tour: 'on' + {tour!r}")
assert client == cli and cli.startswith("on" + tour), "texts differ"
PYTHON
