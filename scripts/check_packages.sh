#!/usr/bin/env bash
# Installs a build's packages in a bare Debian 12 and chats through them as docs/operate.md says: apt, the unit (judged by
# systemd-analyze; where no systemd runs, its commands by hand), the proxy, curl. Full size: 5 GB of memory. As root, with
# debootstrap and systemd-analyze. Usage: check_packages.sh FOLDER-OF-PACKAGES [TOKENS]
set -euo pipefail
debs=$1 tokens=${2:-8}
root=$(mktemp -d)
chmod 755 "$root"
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  umount "$root/proc" 2>/dev/null || true
  mountpoint -q "$root/proc" || rm -rf --one-file-system "$root"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $1" >&2
  tail -n 20 "$root"/tmp/*.log >&2 || true
  exit 1
}
answers() {
  for _ in $(seq 1200); do curl -sf "$1" >/dev/null && return || sleep 0.5; done
  fail "$1 does not answer"
}
inside() { chroot "$root" "$@"; }

debootstrap --variant=minbase --include=ca-certificates,man-db,bash-completion,systemd bookworm "$root" >/dev/null || fail "debootstrap"
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/"
cp "$debs"/polyveil-server_*.deb "$debs"/polyveil_*.deb "$root/tmp/"
inside sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /tmp/polyveil-server_*.deb /tmp/polyveil_*.deb' \
  >"$root/tmp/apt.log" 2>&1 || fail "apt"
echo "ok: installed $(inside dpkg-query -W -f '${Package} ${Version}, ' polyveil polyveil-server)$(du -sh --apparent-size "$root/usr/bin/polyveil" | cut -f1)"
for page in polyveil polyveil-proxy polyveil-server; do inside man -w "$page" >/dev/null || fail "man $page"; done
inside bash -c '. /usr/share/bash-completion/completions/polyveil && complete -p polyveil' >/dev/null || fail "completion"

unit=$root/lib/systemd/system/polyveil-server.service
systemd-analyze verify --root="$root" --man=no "$unit" || fail "systemd-analyze verify"
systemd-analyze security --offline=true --root="$root" polyveil-server.service | tail -1
line() { sed -n "s/^$1=//p" "$unit"; }
install -d -o "$(inside id -u polyveil)" -g "$(inside id -g polyveil)" -m 0700 "$root/var/lib/polyveil"
as_service() { chroot --userspec="$(line User):$(line Group)" "$root" "$@"; }
as_service $(line ExecStartPre) >"$root/tmp/check.log" 2>&1 || fail "--check-config"
as_service $(line ExecStart) >"$root/tmp/server.log" 2>&1 &
pids+=($!)
answers http://127.0.0.1:8117/health/ready
inside useradd -m ann
chroot --userspec=ann:ann "$root" env HOME=/home/ann polyveil proxy --server http://127.0.0.1:8117 >"$root/tmp/proxy.log" 2>&1 &
pids+=($!)
answers http://127.0.0.1:8080/health
curl -sf http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "tiny", "max_tokens": '"$tokens"', "temperature": 0, "messages": [{"role": "user", "content": "Once"}]}' ||
  fail "the chat"
echo
echo "ok: a chat through packages"
