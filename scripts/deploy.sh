#!/usr/bin/env bash
# Build the image, push it, apply the manifests with it, and wait for the rollout; where that fails, go back to what ran before.
set -euo pipefail

# A lease may have to run out, and whoever then leads lists everything first.
readonly LEADING_WITHIN=60

usage() {
  cat <<END
usage: $0 [options] IMAGE

  IMAGE               with its registry and a tag or digest: registry.example.org/userstorage-operator:0.1.0

  --overlay DIR       kustomization to apply (default: deploy)
  --timeout TIME      how long the rollout may take (default: 5m)
  --no-build          the image is in the registry already: neither build nor push it
  --plain-http        the registry speaks no TLS

Works with the cluster of your KUBECONFIG, which also has to let you run commands in the operator's pods. Exit code 1: not
deployed; what ran before runs again, if anything did. Definitions, rights and policies are not taken back.
END
}

fail() {
  echo "deploy: $*" >&2
  exit 1
}

refuse() {
  echo "deploy: $*" >&2
  usage >&2
  exit 2
}

needs_value() {
  [[ ${2:-} ]] || refuse "$1 needs a value"
}

root=$(cd "$(dirname "$0")/.." && pwd -P)
overlay=$root/deploy timeout=5m build=yes push_options="" image=""
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --overlay) needs_value "$@" && overlay=$2 && shift ;;
    --timeout) needs_value "$@" && timeout=$2 && shift ;;
    --no-build) build=no ;;
    --plain-http) push_options=--plain-http ;;
    -*) refuse "unknown option $1" ;;
    *) [[ ! $image ]] || refuse "one image, not two: $image $1" && image=$1 ;;
  esac
  shift
done
[[ $image ]] || refuse "no IMAGE"
[[ $timeout =~ ^([0-9]+[smh])+$ ]] || refuse "--timeout $timeout: not a time such as 5m or 1m30s"
[[ -d $overlay ]] || refuse "--overlay $overlay: not a directory"
overlay=$(cd "$overlay" && pwd -P)
case ${image##*/} in
  *@*) place="newName: ${image%@*}, digest: '${image##*@}'" ;;
  *:*) place="newName: ${image%:*}, newTag: '${image##*:}'" ;;
  *) refuse "$image: neither a tag nor a digest" ;;
esac

operator=(--namespace=userstorage-system deployment/userstorage-operator)
revision() {
  kubectl get "${operator[@]}" --ignore-not-found -o 'jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}'
}

before=$(revision) || fail "no cluster"
if [[ $build == yes ]]; then
  make -C "$root" --no-print-directory image push IMAGE="$image" PUSH_OPTIONS="$push_options"
fi
[[ $overlay != "$root/deploy/overlays/demo" ]] || "$root/scripts/redis-secret.sh"

# A kustomization around the chosen one, which stays as it is. It has to name it by a relative path.
around=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$around"' EXIT
slashes=${around//[^\/]/}
cat >"$around/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["${slashes//\//../}${overlay#/}"]
images: [{name: userstorage-operator, $place}]
END

# Standing by is being ready: that the image can also lead shows when its pods are the only ones.
well() {
  local deadline=$((SECONDS + LEADING_WITHIN))
  until "$root/scripts/health-check.sh"; do
    ((SECONDS < deadline)) || return 1
    sleep 3
  done
}

# kubectl goes on with the rest where one object is refused: the Deployment may be changed all the same.
if ! kubectl apply -k "$around"; then
  echo "deploy: not all of $overlay could be applied" >&2
elif ! kubectl rollout status "${operator[@]}" --timeout="$timeout"; then
  echo "deploy: $image does not get ready:" >&2
  kubectl get pods --namespace=userstorage-system --selector=app.kubernetes.io/name=userstorage-operator >&2 || true
elif ! well; then
  echo "deploy: $image gets ready but not well" >&2
elif [[ $before == "$(revision)" ]]; then
  echo "nothing to roll out: the operator runs $image already (what is pushed anew needs a new tag)"
  exit
else
  echo "deployed $image"
  exit
fi

[[ $before ]] || fail "and nothing else ran before"
kubectl rollout undo "${operator[@]}" --to-revision="$before" >&2
kubectl rollout status "${operator[@]}" --timeout="$timeout" >&2 || fail "and neither does what ran before"
fail "what ran before runs again: $(kubectl get "${operator[@]}" -o 'jsonpath={.spec.template.spec.containers[0].image}')"
