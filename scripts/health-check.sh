#!/usr/bin/env bash
# Ask every replica of the operator how it is.
set -euo pipefail

usage() {
  cat <<END
usage: $0

Prints what each replica says of itself at /health and /ready, and who leads.
Works with the cluster of your KUBECONFIG. Exit code 1: a replica is missing, unhealthy or not ready, or nobody leads.
END
}

case ${1:-} in
  --help) usage && exit ;;
  ?*) usage >&2 && exit 2 ;;
esac

system=(--namespace=userstorage-system)
code=0
bad() {
  echo "BAD   $*"
  code=1
}

replicas=$(kubectl get deployment userstorage-operator "${system[@]}" --ignore-not-found \
  -o 'jsonpath={.status.availableReplicas} of {.spec.replicas}')
[[ $replicas ]] || { bad "deployment  not installed" && exit 1; }
if [[ ${replicas% of *} == "${replicas#* of }" ]]; then
  echo "ok    deployment  $replicas replicas available"
else
  bad "deployment  ${replicas/# /0 } replicas available"
fi

# Inside of the pod, where no network policy is in the way; the answer of one that is not ready has its reason.
ask='
import json, sys, urllib.error, urllib.request
said, well = {}, True
for path in ("health", "ready"):
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:8080/{path}", timeout=5)
    except urllib.error.HTTPError as error:
        answer, well = error, False
    except OSError as error:
        sys.exit(f"does not answer: {error}")
    told = json.load(answer)
    said |= told | {key: said.get(key, {}) | told.get(key, {}) for key in ("failing", "degraded")}
print(said["role"] + "".join(f"; {kind} {name}: {why}" for kind in ("failing", "degraded") for name, why in said[kind].items()))
sys.exit(not well)
'
for pod in $(kubectl get pods "${system[@]}" --selector=app.kubernetes.io/name=userstorage-operator -o name); do
  if said=$(kubectl exec "${system[@]}" "$pod" -- python -c "$ask" 2>&1); then
    echo "ok    ${pod#pod/}  $said"
  else
    bad "${pod#pod/}  $said"
  fi
done

holder=$(kubectl get lease userstorage-operator "${system[@]}" --ignore-not-found -o 'jsonpath={.spec.holderIdentity}')
if [[ $holder ]]; then
  echo "ok    lease  held by ${holder%_*}"
else
  bad "lease  held by nobody"
fi
exit "$code"
