"""The command lines and configuration files of etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

Every profile starts these four programs.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.certificates import Authority
from localcluster.layout import Layout

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
PARTS = ("etcd", *CONTROL_PLANE, "kubelet", "kube-proxy", "kubectl")
"""The programs that the executable `kube` contains. The name by which it is called decides which one runs."""

REQUESTS_PER_SECOND = 500
"""The client-side rate limit of kube-controller-manager and kube-scheduler.

Their defaults of 20 and 50 would make every start of a cluster seconds longer.
"""

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, written after the response.
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        # Heartbeats of nodes would be most of the lines, and no test reads them.
        {"level": "None", "namespaces": ["kube-node-lease"]},
        {"level": "None", "users": ["system:apiserver"]},
        # Every request of the account under test, so that its rights can be compared with its requests.
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:userstorage-system"]},
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
    ],
}


@dataclass(frozen=True)
class Settings:
    """The settings that differ between clusters: addresses, ports, and disabled controllers and scheduler plugins."""

    address: str
    port: int
    etcd_port: int
    services: str
    service_address: str
    controllers_off: Sequence[str] = ()
    scheduler_plugins_off: Sequence[str] = ()

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.address}:{self.port}"

    @property
    def etcd(self) -> str:
        """The URL of etcd."""
        return f"http://127.0.0.1:{self.etcd_port}"


def write_keys(layout: Layout, settings: Settings) -> Authority:
    """Write the keys, certificates and kubeconfigs of the control plane and its administrator.

    Return the certificate authority that signed the certificates.
    """
    authority = Authority(layout.keys)
    authority.signing_pair("service-accounts")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    authority.server("apiserver", ["localhost", *names], sorted({"127.0.0.1", settings.address, settings.service_address}))
    authority.client("admin", "localcluster-admin", "system:masters")
    write_kubeconfig(layout.kubeconfig, layout, settings, "admin")
    for name in ("kube-controller-manager", "kube-scheduler"):
        authority.client(name, f"system:{name}")
        write_kubeconfig(layout.run / f"{name}.kubeconfig", layout, settings, name)
    return authority


def write_kubeconfig(path: Path, layout: Layout, settings: Settings, user: str) -> None:
    """Write a kubeconfig to `path`, with the key and the certificate of the Kubernetes user `user`."""

    def encoded(name: str) -> str:
        return base64.b64encode((layout.keys / name).read_bytes()).decode()

    cluster = {"server": settings.server, "certificate-authority-data": encoded("ca.crt")}
    credentials = {
        "client-certificate-data": encoded(f"{user}.crt"),
        "client-key-data": encoded(f"{user}.key"),
    }
    write_json(
        path,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "localcluster", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "localcluster", "context": {"cluster": "localcluster", "user": user}}],
            "current-context": "localcluster",
        },
        mode=0o600,
    )


def write_json(path: Path, content: Mapping[str, Any], mode: int = 0o644) -> None:
    """Write `content` to the file `path` as JSON, which programs that expect YAML can read too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=mode)
    path.write_text(json.dumps(content, indent=1))


def link_programs(layout: Layout, kube: Path, others: Mapping[str, Path]) -> None:
    """Create a symbolic link in `layout.programs` for each program: to `kube` for those in PARTS, else as in `others`."""
    layout.programs.mkdir(parents=True, exist_ok=True)
    for name, target in {**dict.fromkeys(PARTS, kube), **others}.items():
        link = layout.programs / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def etcd_command(layout: Layout, settings: Settings) -> list[str]:
    """Return the command line of etcd, without fsync: the data of a cluster is not needed after a crash of the machine."""
    return [
        str(layout.programs / "etcd"),
        f"--data-dir={layout.run / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={settings.etcd}",
        f"--advertise-client-urls={settings.etcd}",
        # etcd has no peers here; any free port is fine.
        "--listen-peer-urls=http://127.0.0.1:0",
        "--log-level=warn",
    ]


def apiserver_command(layout: Layout, settings: Settings, extra: Sequence[str]) -> list[str]:
    """Write the audit policy of the API server, and return its command line. The audit log is logs/audit.jsonl."""
    keys = layout.keys
    policy = layout.run / "audit-policy.json"
    write_json(policy, AUDIT_POLICY)
    return [
        str(layout.programs / "kube-apiserver"),
        f"--etcd-servers={settings.etcd}",
        f"--secure-port={settings.port}",
        f"--advertise-address={settings.address}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--service-account-key-file={keys / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={keys / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={settings.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--allow-privileged",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.logs / 'audit.jsonl'}",
        "--audit-log-maxsize=100000",  # MB: one file, because a reader that follows it would miss lines at a rotation
        *extra,
    ]


def controller_manager_command(layout: Layout, settings: Settings) -> list[str]:
    """Return the command line of kube-controller-manager, without leader election, as a cluster has only one."""
    return [
        str(layout.programs / "kube-controller-manager"),
        f"--kubeconfig={layout.run / 'kube-controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={layout.keys / 'service-accounts.key'}",
        f"--root-ca-file={layout.keys / 'ca.crt'}",
        "--use-service-account-credentials",
        "--controllers=" + ",".join(["*", *(f"-{name}" for name in settings.controllers_off)]),
        f"--kube-api-qps={REQUESTS_PER_SECOND}",
        f"--kube-api-burst={2 * REQUESTS_PER_SECOND}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def scheduler_command(layout: Layout, settings: Settings) -> list[str]:
    """Write the configuration file of kube-scheduler, and return the command line that starts it.

    It runs without leader election, as a cluster has only one.
    """
    config = layout.run / "kube-scheduler.json"
    plugins = {"multiPoint": {"disabled": [{"name": name} for name in settings.scheduler_plugins_off]}}
    write_json(
        config,
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {
                "kubeconfig": str(layout.run / "kube-scheduler.kubeconfig"),
                "qps": REQUESTS_PER_SECOND,
                "burst": 2 * REQUESTS_PER_SECOND,
            },
            "profiles": [{"schedulerName": "default-scheduler", "plugins": plugins}],
        },
    )
    return [str(layout.programs / "kube-scheduler"), f"--config={config}", "--secure-port=0"]
