#!/usr/bin/env bash
# Check the health of every replica of the operator.
set -euo pipefail

usage() {
  cat <<END
usage: $0 [--namespace NAMESPACE]

Prints what each replica reports at /health and /ready, and which replica leads.
The operator is in userstorage-system or in the namespace that --namespace names.
Uses the cluster of your KUBECONFIG. Exit code 1: a replica is missing, unhealthy or not ready, or there is no leader.
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

system=(--namespace="$namespace")
code=0
bad() {
  echo "BAD   $*"
  code=1
}

replicas=$(kubectl get deployment userstorage-operator "${system[@]}" --ignore-not-found \
  -o 'jsonpath={.status.availableReplicas} of {.spec.replicas}')
[[ $replicas ]] || { bad "deployment  not installed" && exit 1; }
replicas=${replicas/# /0 } # availableReplicas is absent if it is 0
if ((${replicas% of *} >= ${replicas#* of })); then # more than the desired number during a rollout
  echo "ok    deployment  $replicas replicas available"
else
  bad "deployment  $replicas replicas available"
fi

# Runs inside of the pod, where no NetworkPolicy applies. The response of a replica that is not ready contains the reason.
probe='
import json, sys, urllib.error, urllib.request
report, healthy = {}, True
for path in ("health", "ready"):
    try:
        response = urllib.request.urlopen(f"http://127.0.0.1:8080/{path}", timeout=5)
    except urllib.error.HTTPError as error:
        response, healthy = error, False
    except OSError as error:
        sys.exit(f"does not answer: {error}")
    body = json.load(response)
    report |= body | {key: report.get(key, {}) | body.get(key, {}) for key in ("failing", "degraded")}
problems = [f"; {kind} {name}: {why}" for kind in ("failing", "degraded") for name, why in report[kind].items()]
print(report["role"] + "".join(problems))
sys.exit(not healthy)
'
# Skips finished pods, which the API server keeps for a while, and terminating pods.
pods='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}'
leading=""
for pod in $(kubectl get pods "${system[@]}" --selector=app.kubernetes.io/name=userstorage-operator \
  --field-selector='status.phase!=Failed,status.phase!=Succeeded' -o go-template="$pods"); do
  if output=$(kubectl exec "${system[@]}" "$pod" -- python -c "$probe" 2>&1); then
    echo "ok    $pod  $output"
  else
    bad "$pod  $output"
  fi
  [[ $output != leading* ]] || leading+=" $pod "
done

holder=$(kubectl get lease userstorage-operator "${system[@]}" --ignore-not-found -o 'jsonpath={.spec.holderIdentity}')
if [[ ! $holder ]]; then
  bad "lease  has no holder"
elif [[ $leading == *" ${holder%_*} "* ]]; then
  echo "ok    lease  held by ${holder%_*}"
else # the holder may have died a moment ago: another replica takes over within 17 s
  bad "lease  held by ${holder%_*}, which does not lead"
fi
exit "$code"
