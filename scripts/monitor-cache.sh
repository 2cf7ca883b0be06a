#!/usr/bin/env bash
# Print what the operator's Redis holds and where it differs from the cluster: run `userstorage-operator cache` in a replica.
set -euo pipefail

usage() {
  cat <<END
usage: $0 [--namespace NAMESPACE] [--every SECONDS] [-o json]

Runs in a replica of the operator, which has the address and the password. With --every it repeats until interrupted.
The operator is in userstorage-system or in the namespace that --namespace names.
Uses the cluster of your KUBECONFIG. Exit code 1: Redis and the cluster differ, there is no mirror, or Redis does not answer.
END
}

refuse() {
  echo "monitor-cache: $*" >&2
  usage >&2
  exit 2
}

needs_value() {
  [[ ${2:-} ]] || refuse "$1 needs a value"
}

namespace=userstorage-system every="" output=text
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --namespace) needs_value "$@" && namespace=$2 && shift ;;
    --every) needs_value "$@" && every=$2 && shift ;;
    -o) needs_value "$@" && output=$2 && shift ;;
    *) refuse "unknown argument $1" ;;
  esac
  shift
done
[[ ! $every || $every =~ ^[1-9][0-9]*$ ]] || refuse "--every $every: must be a number of seconds, 1 or more"

inspect() {
  local pods pod
  pods=$(kubectl get pods --namespace="$namespace" --selector=app.kubernetes.io/name=userstorage-operator \
    --field-selector=status.phase=Running -o name) || return 1
  read -r pod <<<"$pods"
  if [[ ! $pod ]]; then
    echo "no replica of the operator runs" >&2
    return 1
  fi
  kubectl exec --namespace="$namespace" "$pod" -- userstorage-operator cache -o "$output"
}

if [[ ! $every ]]; then
  inspect
  exit
fi
while true; do
  date -u +%FT%TZ
  inspect || true
  sleep "$every"
done
