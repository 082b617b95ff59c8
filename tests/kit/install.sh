#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing, and lets none of them start a service, now or at boot.
# Which mirror is asked, and through what, is the machine's own setting.
set -euo pipefail

missing=()
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "install.sh: no apt-get here; install these programs yourself: ${missing[*]}" >&2
  exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

# One at a time: the policy below must not be taken away under another run of this file.
exec 9<"$0"
flock 9

# invoke-rc.d asks this program before it starts a service; 101 forbids it (deb-systemd-invoke asks it too).
policy=/usr/sbin/policy-rc.d
ours="# for promgate's tests/kit/install.sh alone: remove it"
if [ ! -e "$policy" ] || grep -qxF "$ours" "$policy"; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\n%s\nexit 101\n' "$ours" | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi

echo "install.sh: installing ${missing[*]}" >&2
# A machine that was just set up may be updating itself: wait for that, a minute.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0)
"${apt[@]}" update 9<&-
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 9<&-

# Not started is not enough: what is enabled starts with the next boot.
mapfile -t units < <(dpkg -L "${missing[@]}" | sed -nE 's#.*/systemd/system/([^/]+\.(service|timer|socket))$#\1#p')
if command -v systemctl >/dev/null && [ ${#units[@]} -gt 0 ]; then
  "${as_root[@]}" systemctl --quiet disable "${units[@]}" 9<&- ||
    echo "install.sh: could not disable ${units[*]}: they start with the next boot" >&2
fi
