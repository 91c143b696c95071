#!/bin/sh
# Gets a fresh machine ready: the npm packages of the lock file, and the Debian packages that are named as arguments.
# What is there already is left alone, so it costs nothing the second time.
set -eu
cd "$(dirname "$0")"

installed=node_modules/.installed-package-lock.json
if ! cmp -s package-lock.json "$installed"; then
  # npm runs on the machine's own Node and says that it is too old; ours comes with the packages.
  npm ci --loglevel=error
  cp package-lock.json "$installed"
fi

missing=
for package in "$@"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup.sh: these Debian packages are missing, please install them:$missing" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
# shellcheck disable=SC2086 # each is a word of its own
apt-get install --quiet=2 --yes --no-install-recommends $missing
