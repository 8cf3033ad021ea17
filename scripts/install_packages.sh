#!/usr/bin/env bash
# Installs the Debian 12 packages of the named sets that are missing: build, test, train,
# released, dev, package, checks, browser, download.
set -euo pipefail

build=(cmake ninja-build g++ pkg-config libsodium-dev libcli11-dev libfmt-dev nlohmann-json3-dev libboost1.81-dev libssl-dev libspdlog-dev)
test=(libgtest-dev python3 python3-venv curl openssl)
train=(libtorch-dev libopenblas0-openmp libdnnl-dev libgloo-dev)
released=(libopenblas-openmp-dev libutf8proc-dev)
dev=(clang lld)
package=(dpkg-dev file python3)
checks=(clang clang-format clang-tidy libclang-rt-dev llvm libbenchmark-dev doxygen python3-venv python3-dev)
browser=(chromium)
download=(python3 python3-venv)

wanted=()
for set in "$@"; do
  case "$set" in
    build) wanted+=("${build[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    train) wanted+=("${train[@]}") ;;
    released) wanted+=("${released[@]}") ;;
    dev) wanted+=("${dev[@]}") ;;
    package) wanted+=("${package[@]}") ;;
    checks) wanted+=("${checks[@]}") ;;
    browser) wanted+=("${browser[@]}") ;;
    download) wanted+=("${download[@]}") ;;
    *) echo "install_packages.sh: unknown set '$set' (build, test, train, released, dev, package, checks, browser, download)" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_packages.sh: need root or sudo to install: ${missing[*]}" >&2; exit 1; }
  run=(sudo)
fi
echo "Installing: ${missing[*]}"
"${run[@]}" apt-get update -qq
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
