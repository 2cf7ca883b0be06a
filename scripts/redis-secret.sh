#!/usr/bin/env bash
# Generate the password of the demo's Redis, once. The server gets only its SHA-256.
set -euo pipefail

if [[ ${1:-} == --help ]]; then
  echo "usage: $0    create deploy/overlays/demo/redis-secret/ if it does not exist; delete it to create another"
  exit
fi

directory=$(dirname "$0")/../deploy/overlays/demo/redis-secret
[[ -d $directory ]] && exit
umask 077
temporary=$(mktemp -d "$directory.XXXXXX")
trap 'rm -rf "$temporary"' EXIT

random() { head -c 32 /dev/urandom | sha256sum | cut -c 1-64; }
sha256() { sha256sum | cut -c 1-64; }

printf %s "$(random)" >"$temporary/password"
printf %s "$(random)" >"$temporary/signing-key"
# Only the operator's keys, and no command that could harm other users of the Redis; INFO is for `userstorage-operator cache`.
echo "user default off
user userstorage on #$(sha256 <"$temporary/password") ~us:* &* +@all -@admin -@dangerous +info" >"$temporary/users.acl"
mv "$temporary" "$directory"
echo "created $directory"
