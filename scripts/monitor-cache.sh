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

every="" output=text
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --every) every=$2 && shift ;;
    -o) output=$2 && shift ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

look() {
  local pod
  pod=$(kubectl get pods --namespace=userstorage-system --selector=app.kubernetes.io/name=userstorage-operator \
    --field-selector=status.phase=Running -o 'jsonpath={.items[0].metadata.name}' 2>/dev/null) || true
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
  date --iso-8601=seconds
  look || true
  sleep "$every"
done
