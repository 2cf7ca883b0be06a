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
replicas=${replicas/# /0 } # none is told by no number
if ((${replicas% of *} >= ${replicas#* of })); then # more, while one takes the place of another
  echo "ok    deployment  $replicas replicas available"
else
  bad "deployment  $replicas replicas available"
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
# Without those that have ended, whom the API server keeps for a while, and those that are ending.
pods='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}'
leading=""
for pod in $(kubectl get pods "${system[@]}" --selector=app.kubernetes.io/name=userstorage-operator \
  --field-selector='status.phase!=Failed,status.phase!=Succeeded' -o go-template="$pods"); do
  if said=$(kubectl exec "${system[@]}" "$pod" -- python -c "$ask" 2>&1); then
    echo "ok    $pod  $said"
  else
    bad "$pod  $said"
  fi
  [[ $said != leading* ]] || leading+=" $pod "
done

holder=$(kubectl get lease userstorage-operator "${system[@]}" --ignore-not-found -o 'jsonpath={.spec.holderIdentity}')
if [[ ! $holder ]]; then
  bad "lease  held by nobody"
elif [[ $leading == *" ${holder%_*} "* ]]; then
  echo "ok    lease  held by ${holder%_*}"
else # it may have died a moment ago: another one takes over within 17 s
  bad "lease  held by ${holder%_*}, which does not lead"
fi
exit "$code"
