#!/usr/bin/env bash
# Make up the password of the demo's Redis, once. The server is told no more than its SHA-256.
set -euo pipefail

if [[ ${1:-} == --help ]]; then
  echo "usage: $0    make deploy/overlays/demo/redis-secret/, unless it is there; delete it to make another"
  exit
fi

directory=$(dirname "$0")/../deploy/overlays/demo/redis-secret
[[ -d $directory ]] && exit
umask 077
made=$(mktemp -d "$directory.XXXXXX")
trap 'rm -rf "$made"' EXIT

random() { head -c 32 /dev/urandom | sha256sum | cut -c 1-64; }
sha256() { sha256sum | cut -c 1-64; }

printf %s "$(random)" >"$made/password"
printf %s "$(random)" >"$made/signing-key"
# No keys but ours, and nothing that is dangerous to other users of a Redis but INFO, which `kubectl userstorage cache` asks.
echo "user default off
user userstorage on #$(sha256 <"$made/password") ~us:* &* +@all -@admin -@dangerous +info" >"$made/users.acl"
mv "$made" "$directory"
echo "made $directory"
