#!/usr/bin/env bash
# Build the image, push it, apply the manifests with it, and wait for the rollout; where that fails, go back to what ran before.
set -euo pipefail

usage() {
  cat <<END
usage: $0 [options] IMAGE

  IMAGE               with its registry and a tag or digest: registry.example.org/userstorage-operator:0.1.0

  --overlay DIR       kustomization to apply (default: deploy)
  --timeout TIME      how long the rollout may take (default: 5m)
  --no-build          the image is in the registry already: neither build nor push it
  --plain-http        the registry speaks no TLS

Works with the cluster of your KUBECONFIG. Exit code 1: not deployed; what ran before runs again, if anything did.
END
}

fail() {
  echo "deploy: $*" >&2
  exit 1
}

root=$(realpath "$(dirname "$0")/..")
overlay=$root/deploy timeout=5m build=yes push_options="" image=""
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --overlay) overlay=$(realpath "$2") && shift ;;
    --timeout) timeout=$2 && shift ;;
    --no-build) build=no ;;
    --plain-http) push_options=--plain-http ;;
    -*) usage >&2 && exit 2 ;;
    *) image=$1 ;;
  esac
  shift
done
[[ $image ]] || { usage >&2 && exit 2; }
case ${image##*/} in
  *@*) place="newName: ${image%@*}, digest: '${image##*@}'" ;;
  *:*) place="newName: ${image%:*}, newTag: '${image##*:}'" ;;
  *) fail "$image: neither a tag nor a digest" ;;
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
around=$(mktemp -d)
trap 'rm -rf "$around"' EXIT
cat >"$around/kustomization.yaml" <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["$(realpath --relative-to="$around" "$overlay")"]
images: [{name: userstorage-operator, $place}]
END
kubectl apply -k "$around"

if kubectl rollout status "${operator[@]}" --timeout="$timeout"; then
  echo "deployed $image"
  exit
fi

echo "deploy: $image does not get ready:" >&2
kubectl get pods --namespace=userstorage-system --selector=app.kubernetes.io/name=userstorage-operator >&2 || true
now=$(revision)
if [[ ! $before || $before == "$now" ]]; then
  fail "and nothing else ran before"
fi
kubectl rollout undo "${operator[@]}" --to-revision="$before" >&2
kubectl rollout status "${operator[@]}" --timeout="$timeout" >&2 || fail "and neither does what ran before"
fail "what ran before runs again: $(kubectl get "${operator[@]}" -o 'jsonpath={.spec.template.spec.containers[0].image}')"
