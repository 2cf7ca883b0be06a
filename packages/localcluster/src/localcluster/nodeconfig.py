"""The configuration files and command lines of a node: containerd, its network plugin, kubelet and kube-proxy."""

import os

from localcluster import cgroups, components, nodeimages
from localcluster.addresses import Network
from localcluster.certificates import Authority
from localcluster.components import Settings, write_json
from localcluster.errors import ClusterError
from localcluster.layout import Layout

NODE = "localnode"

# The node has its own /run. A path below the cluster's directory may be too long for a socket.
CONTAINERD_SOCKET = "/run/containerd.sock"

_LONGEST_SOCKET = "pod-resources/4294967295"
"""Below the root directory of kubelet, which listens there first by a name of its own, a random number."""
_MAX_SOCKET_PATH = 107
"""Bytes of the path of a Unix socket on Linux (unix(7))."""

REGISTRIES = "registries"
"""The name of the folder in which containerd finds the addresses of image registries without TLS."""

SETUP = """
directory=$1 interface=$2 address=$3 services=$4 host=$5
# -n: without it, the first mount leaves a record in the /run of this machine.
mount -n -t tmpfs tmpfs /run
mkdir -p /run/kept /run/var/upper /run/var/work
# Programs write to fixed paths in /var/lib and /var/log: an overlay keeps these files in memory. The cluster's directory
# is not part of it, even if it is below /var.
mount --bind "$directory" /run/kept
mount -t overlay -o lowerdir=/var,upperdir=/run/var/upper,workdir=/run/var/work overlay /var
mount --bind /run/kept "$directory"
# Containers have to see the volumes that kubelet mounts.
mount --make-rshared /
ip link set lo up
ip link set "$interface" up
ip address add "$address/30" dev "$interface"
# Without a route to Services the node itself could not open a connection for kube-proxy to redirect.
ip route add "$services" via "$host"
echo 1 > /proc/sys/net/ipv4/ip_forward
"""
"""The shell script that sets up the node's new Linux namespaces. It runs first in them, with `setup_arguments`."""

_CONTAINERD = """version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  # In a virtual machine or container without CAP_SYS_RESOURCE, runc fails to lower the OOM score.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  # One folder for each registry without TLS; read at every pull.
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


def check_length(layout: Layout) -> None:
    """Raise ClusterError if the path of the cluster's directory is too long for the sockets of kubelet."""
    excess = len(os.fsencode(layout.run / "kubelet" / _LONGEST_SOCKET)) - _MAX_SOCKET_PATH
    if excess > 0:
        raise ClusterError(f"the path {layout.directory} is {excess} bytes too long: kubelet keeps Unix sockets below it")


def setup_arguments(layout: Layout, network: Network) -> list[str]:
    """Return the arguments of the shell script `SETUP`: the cluster's directory, interface name and addresses."""
    return [str(layout.directory), network.peer_name, network.node, str(network.services), network.host]


def write(layout: Layout, settings: Settings, network: Network, authority: Authority, group: str) -> None:
    """Write the keys and configuration files of containerd, its network plugin, kubelet and kube-proxy.

    `group` is the control group in which kubelet creates those of the pods.
    """
    authority.client("kubelet", f"system:node:{NODE}", "system:nodes")
    authority.client("kube-proxy", "system:kube-proxy")
    authority.client("provisioner", "provisioner", "system:masters")
    authority.server("kubelet-server", [NODE], [network.node])
    for name in ("kubelet", "kube-proxy"):
        components.write_kubeconfig(layout.run / f"{name}.kubeconfig", layout, settings, name)
    plugins = layout.run / "cni"
    write_json(plugins / "10-pods.conflist", _network_plugin(network))
    text = _CONTAINERD.format(
        root=layout.run / "containerd",
        socket=CONTAINERD_SOCKET,
        pause=nodeimages.PAUSE,
        registries=layout.run / REGISTRIES,
        cni=plugins,
    )
    (layout.run / "containerd.toml").write_text(text)
    # No DNS server answers there. With an empty file, containerd would give pods the DNS servers of this machine.
    (layout.run / "resolv.conf").write_text(f"nameserver {network.node}\noptions timeout:1 attempts:1\n")
    write_json(layout.run / "kubelet.json", _kubelet(layout, network, group))
    write_json(layout.run / "kube-proxy.json", _kube_proxy(layout, network))


def _network_plugin(network: Network) -> dict[str, object]:
    # Point to point instead of a bridge: packets between pods are then routed, so that they can be redirected for Services
    # without the kernel module that a bridge needs.
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",
        "ranges": [[{"subnet": str(network.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}


def _kubelet(layout: Layout, network: Network, group: str) -> dict[str, object]:
    run, keys = layout.run, layout.keys
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(keys / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # This machine may have no systemd, and by default kubelet refuses cgroup version 1.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "failCgroupV1": cgroups.is_unified(),
        "failSwapOn": False,
        "resolvConf": str(run / "resolv.conf"),
        "podLogsDir": str(run / "pod-logs"),
        "volumePluginDir": str(run / "volume-plugins"),
        "volumeStatsAggPeriod": "5s",  # tests do not wait for the default of a minute
        # A garbage-collected image could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # A disk that is nearly full is normal on a developer's machine.
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
    }


def _kube_proxy(layout: Layout, network: Network) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.run / "kube-proxy.kubeconfig")},
        "clusterCIDR": str(network.pods),
        "hostnameOverride": NODE,
        # The limit on connections is that of the whole machine and must not change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def containerd_command(layout: Layout) -> list[str]:
    """Return the command line of containerd."""
    return ["containerd", f"--config={layout.run / 'containerd.toml'}"]


def apiserver_options(layout: Layout) -> list[str]:
    """Return the kube-apiserver options for requests to kubelet, which logs, exec and port-forward need."""
    keys = layout.keys
    return [
        "--bind-address=0.0.0.0",
        f"--kubelet-client-certificate={keys / 'admin.crt'}",
        f"--kubelet-client-key={keys / 'admin.key'}",
        f"--kubelet-certificate-authority={keys / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def node_commands(layout: Layout, network: Network) -> dict[str, list[str]]:
    """Return the command lines of kubelet and kube-proxy, by program name."""
    return {
        "kubelet": [
            str(layout.programs / "kubelet"),
            f"--config={layout.run / 'kubelet.json'}",
            f"--kubeconfig={layout.run / 'kubelet.kubeconfig'}",
            f"--hostname-override={NODE}",
            f"--node-ip={network.node}",
            f"--root-dir={layout.run / 'kubelet'}",
        ],
        "kube-proxy": [str(layout.programs / "kube-proxy"), f"--config={layout.run / 'kube-proxy.json'}"],
    }
