#!/usr/bin/env bash
# Print the state of UserStorage in the cluster on one page.
set -euo pipefail

usage() {
  cat <<END
usage: $0 [--namespace NAMESPACE]

Prints nodes, the operator, classes, the number of UserStorages by phase, those that are neither Ready nor Suspended, and
recent warnings in the operator's namespace, which is userstorage-system or what --namespace names.
Uses the cluster of your KUBECONFIG. Exit code 1: the cluster cannot be reached, or the CRDs are missing.
END
}

namespace=userstorage-system
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --namespace)
      [[ ${2:-} ]] || { usage >&2 && exit 2; }
      namespace=$2
      shift
      ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

title() { printf '\n== %s\n' "$*"; }

title nodes
kubectl get nodes
title operator
kubectl get deployments,pods,poddisruptionbudgets --namespace="$namespace"
title classes
kubectl get userstorageclasses
all=$(kubectl get userstorages --all-namespaces --no-headers \
  -o 'custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,PHASE:.status.phase,REASON:.status.conditions[?(@.type=="Ready")].reason')
title "UserStorages by phase"
awk 'NF {count[$3]++} END {for (phase in count) print count[phase], phase}' <<<"$all" | sort -rn
title "neither Ready nor Suspended"
awk 'NF && $3 != "Ready" && $3 != "Suspended"' <<<"$all"
title "warnings in the operator's namespace"
kubectl get events --namespace="$namespace" --field-selector=type=Warning --sort-by=.lastTimestamp | tail -n 10
