#!/usr/bin/env bash
# Builds packaging/Dockerfile by buildah, which needs no daemon, runs the image's command and asks it for tokens. Full
# size: 5 GB of memory. As root. BUILDAH: the command with its options; IMAGE: one that is built already.
# Usage: check_image.sh POLYVEIL [TOKENS]
set -euo pipefail
polyveil=$1 tokens=${2:-2} image=${IMAGE:-polyveil-server}
cd "$(dirname "$0")/.."
buildah=${BUILDAH:-buildah}
[ -n "${IMAGE:-}" ] ||
  $buildah bud -q --isolation chroot --network host -f packaging/Dockerfile -t "$image" . >/dev/null
container=$($buildah from --pull-never "$image")
server=
cache=$(mktemp -d)
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait
  $buildah rm "$container" >/dev/null
  rm -rf "$cache"
}
trap cleanup EXIT
field() { $buildah inspect --type image --format "{{range .OCIv1.Config.$1}}{{.}} {{end}}" "$image"; }
command=$(field Entrypoint)$(field Cmd)
echo "the image: user $($buildah inspect --type image --format '{{.OCIv1.Config.User}}' "$image"), command $command"
$buildah run --isolation chroot "$container" -- $command &
server=$!
until curl -sf http://127.0.0.1:8117/health/ready >/dev/null; do
  kill -0 "$server" 2>/dev/null || { echo "FAILED: the image's server ended" >&2; exit 1; }
  sleep 0.5
done
"$polyveil" generate --server http://127.0.0.1:8117 --cache "$cache/models" --prompt "Once upon a time" --tokens "$tokens"
echo "ok: a text of the image's server"
