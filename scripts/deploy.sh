#!/usr/bin/env bash
# Build the image, push it, apply the manifests with it, and wait for the rollout; roll back if that fails.
set -euo pipefail

# Seconds. The old lease may have to expire, and a new leader lists everything before it is ready.
readonly LEADER_TIMEOUT=60

usage() {
  cat <<END
usage: $0 [options] IMAGE

  IMAGE               image name with registry and tag or digest: registry.example.org/userstorage-operator:0.1.0

  --overlay DIR       kustomization to apply (default: deploy)
  --timeout TIME      time limit for the rollout (default: 5m)
  --no-build          do not build or push the image; it is in the registry already
  --plain-http        push to a registry without TLS

Uses the cluster of your KUBECONFIG; you need permission to run commands in the operator's pods. Exit code 1: not deployed,
and rolled back to the previous image, if there was one. CRDs, permissions and policies are not rolled back.
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
    *) [[ ! $image ]] || refuse "only one IMAGE is allowed: $image $1" && image=$1 ;;
  esac
  shift
done
[[ $image ]] || refuse "IMAGE is missing"
[[ $timeout =~ ^([0-9]+[smh])+$ ]] || refuse "--timeout $timeout: must be a time such as 5m or 1m30s"
[[ -d $overlay ]] || refuse "--overlay $overlay: is not a directory"
overlay=$(cd "$overlay" && pwd -P)
case ${image##*/} in
  *@*) image_fields="newName: ${image%@*}, digest: '${image##*@}'" ;;
  *:*) image_fields="newName: ${image%:*}, newTag: '${image##*:}'" ;;
  *) refuse "IMAGE $image: needs a tag or a digest" ;;
esac

operator=(--namespace=userstorage-system deployment/userstorage-operator)
revision() {
  kubectl get "${operator[@]}" --ignore-not-found -o 'jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}'
}

before=$(revision) || fail "cannot reach the cluster"
if [[ $build == yes ]]; then
  make -C "$root" --no-print-directory image push IMAGE="$image" PUSH_OPTIONS="$push_options"
fi
[[ $overlay != "$root/deploy/overlays/demo" ]] || "$root/scripts/redis-secret.sh"

# A temporary kustomization around the chosen one, so that the latter is not modified. It needs a relative path.
wrapper=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$wrapper"' EXIT
slashes=${wrapper//[^\/]/}
cat >"$wrapper/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["${slashes//\//../}${overlay#/}"]
images: [{name: userstorage-operator, $image_fields}]
END

# A standby replica is ready too: whether the image can lead shows only when all pods run it.
is_healthy() {
  local deadline=$((SECONDS + LEADER_TIMEOUT))
  until "$root/scripts/health-check.sh"; do
    ((SECONDS < deadline)) || return 1
    sleep 3
  done
}

# If one object is denied, kubectl still applies the rest: the Deployment may have changed.
if ! kubectl apply -k "$wrapper"; then
  echo "deploy: not all of $overlay could be applied" >&2
elif ! kubectl rollout status "${operator[@]}" --timeout="$timeout"; then
  echo "deploy: $image did not get ready:" >&2
  kubectl get pods --namespace=userstorage-system --selector=app.kubernetes.io/name=userstorage-operator >&2 || true
elif ! is_healthy; then
  echo "deploy: $image is ready, but scripts/health-check.sh fails" >&2
elif [[ $before == "$(revision)" ]]; then
  echo "nothing to roll out: the operator runs $image already (a changed image needs a new tag)"
  exit
else
  echo "deployed $image"
  exit
fi

[[ $before ]] || fail "no previous revision to roll back to"
kubectl rollout undo "${operator[@]}" --to-revision="$before" >&2
kubectl rollout status "${operator[@]}" --timeout="$timeout" >&2 || fail "the previous revision did not get ready either"
fail "rolled back to $(kubectl get "${operator[@]}" -o 'jsonpath={.spec.template.spec.containers[0].image}')"
