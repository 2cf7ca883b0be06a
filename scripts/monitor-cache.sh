#!/usr/bin/env bash
# Say what the operator's Redis holds and whether the cluster says the same: `kubectl userstorage cache`, from the inside.
set -euo pipefail

usage() {
  cat <<END
usage: $0 [--every SECONDS] [-o json]

Runs in a replica of the operator, which has the address and the password. With --every it goes on until interrupted.
Works with the cluster of your KUBECONFIG. Exit code 1: they differ, there is no mirror, or Redis does not answer.
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

every="" output=text
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --every) needs_value "$@" && every=$2 && shift ;;
    -o) needs_value "$@" && output=$2 && shift ;;
    *) refuse "unknown argument $1" ;;
  esac
  shift
done
[[ ! $every || $every =~ ^[1-9][0-9]*$ ]] || refuse "--every $every: not a number of seconds, 1 or more"

look() {
  local pods pod
  pods=$(kubectl get pods --namespace=userstorage-system --selector=app.kubernetes.io/name=userstorage-operator \
    --field-selector=status.phase=Running -o name) || return 1
  read -r pod <<<"$pods"
  if [[ ! $pod ]]; then
    echo "no replica of the operator runs" >&2
    return 1
  fi
  kubectl exec --namespace=userstorage-system "$pod" -- kubectl-userstorage cache -o "$output"
}

if [[ ! $every ]]; then
  look
  exit
fi
while true; do
  date -u +%FT%TZ
  look || true
  sleep "$every"
done
