"""The profile `control-plane`: a real API server, controller manager and scheduler, and four fake nodes.

kwok simulates the kubelet of the fake nodes by the rules in `stages/`. A pod runs, fails and terminates as its annotation
`localcluster.userstorage.dev/life` says. A claim of the StorageClass `kwok-volume` becomes bound. No container runs, no packet
is sent to a pod, and no root rights are needed.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from localcluster import components
from localcluster.addresses import free_port
from localcluster.api import Api
from localcluster.layout import Layout
from localcluster.starter import Starter

STAGES = Path(__file__).parent / "stages"

NODES = ("fake-1", "fake-2", "fake-3", "fake-4")

SERVICES = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"

POD_ADDRESSES = "10.64.0.0/12"
"""The range of pod addresses, enough for a million pods."""

CONTROLLERS_OFF = (
    # kwok binds claims here. With hundreds of claims it would race with this controller, which binds only ten a second.
    "persistentvolume-binder-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-expander-controller",
)

SCHEDULER_PLUGINS_OFF = ("VolumeBinding", "VolumeRestrictions", "VolumeZone", "NodeVolumeLimits")
"""Scheduler plugins that are disabled: they look for PersistentVolumes, and this profile has none."""

_CLAIM_WORKERS = {
    "PersistentVolumeClaim": "0123",
    "PersistentVolumeClaims": "4567",
    "persistentvolumeclaim": "89ab",
    "persistentvolumeclaims": "cdef",
}
"""Names of the kind -> last digits of the uids of its claims.

kwok has one worker for each name of a kind, beside Pod and Node, and the API server knows this kind by all of these. One worker alone
would bind most claims of a burst after their pods are ready, which no cluster does: a kubelet mounts the volume first.
"""

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "kwok-volume",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "localcluster.userstorage.dev/kwok",
    "volumeBindingMode": "Immediate",
    "reclaimPolicy": "Delete",
    "allowVolumeExpansion": True,
}


def settings() -> components.Settings:
    """Return the control plane settings of a new cluster, with TCP ports that are free now."""
    return components.Settings(
        address="127.0.0.1",
        port=free_port(),
        etcd_port=free_port(),
        services=SERVICES,
        service_address=SERVICE_ADDRESS,
        controllers_off=CONTROLLERS_OFF,
        scheduler_plugins_off=SCHEDULER_PLUGINS_OFF,
    )


def apiserver_options() -> list[str]:
    """Return the kube-apiserver command line options that only the profile `control-plane` needs."""
    # The API server listens on loopback only, and a Service cannot have a loopback address as its endpoint.
    return ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]


def kwok_command(layout: Layout) -> list[str]:
    """Write the configuration file of kwok, and return the command line that starts kwok with it.

    kwok sends requests to the API server without a client-side rate limit.
    """
    config = layout.run / "kwok.yaml"
    components.write_json(
        config,
        {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "options": {
                "cidr": POD_ADDRESSES,
                "nodeIP": "10.63.255.254",
                "manageNodesWithAnnotationSelector": "kwok.x-k8s.io/node=fake",
                "podPlayStageParallelism": 16,
                "nodePlayStageParallelism": 4,
                "podsOnNodeSyncParallelism": 4,
                "nodeLeaseParallelism": 4,
                "nodeLeaseDurationSeconds": 40,
            },
        },
    )
    files = [config, *sorted(STAGES.glob("*.yaml")), *_write_claim_stages(layout)]
    return [
        # By default kwok also reads the configuration in the user's home directory.
        "/usr/bin/env",
        f"KWOK_WORKDIR={layout.run}",
        str(layout.programs / "kwok"),
        f"--kubeconfig={layout.run / 'kwok.kubeconfig'}",
        *(f"--config={path}" for path in files),
    ]


def _write_claim_stages(layout: Layout) -> Iterator[Path]:
    """Write the stages of claims for each worker, and yield the paths."""
    template = Template((STAGES / "claims.yaml.template").read_text())
    for number, (kind, last_digits) in enumerate(_CLAIM_WORKERS.items()):
        path = layout.run / f"claims-{number}.yaml"
        path.write_text(template.substitute(kind=kind, last_digits=json.dumps(list(last_digits))))
        yield path


def create_objects(api: Api) -> None:
    """Create the fake Nodes and the StorageClass `kwok-volume`. Raises ApiError if the API server refuses a request."""
    api.apply("/apis/storage.k8s.io/v1/storageclasses/kwok-volume", STORAGE_CLASS)
    for name in NODES:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        metadata = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        api.apply(f"/api/v1/nodes/{name}", {"apiVersion": "v1", "kind": "Node", "metadata": metadata})


def start(starter: Starter, kube: Path, others: Mapping[str, Path]) -> None:
    """Start a new cluster and wait until pods can be scheduled. `kube` is the path of that executable; `others` has that of
    kwok, and of those parts that are not from `kube`, by program name.

    Raises ClusterError if that fails.
    """
    layout = starter.layout
    chosen = settings()
    starter.state.server = chosen.server
    starter.save()
    components.link_programs(layout, kube, others)
    authority = components.write_keys(layout, chosen)
    # A separate user, so that the audit log distinguishes the writes of kwok from those of the administrator.
    authority.client("kwok", "kwok", "system:masters")
    components.write_kubeconfig(layout.run / "kwok.kubeconfig", layout, chosen, "kwok")
    api = Api(chosen.server, layout.keys)
    starter.run_control_plane(chosen, api, apiserver_options())
    create_objects(api)
    starter.run("kwok", kwok_command(layout))
    wait_until_usable(starter, api)


def wait_until_usable(starter: Starter, api: Api) -> None:
    """Wait until pods can be created and scheduled. Raises ClusterError if that takes too long, or if a program exits."""
    starter.wait_for_default_account(api)
    starter.wait("four fake nodes ready", lambda: all(api.node_ready(name) for name in NODES))
