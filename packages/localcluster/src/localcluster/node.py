"""The profile `node`: one node that runs real containers, with containerd, kubelet and kube-proxy.

The whole cluster runs in its own Linux namespaces. A veth pair connects the namespaces with this machine, so that the API
server, pods and Services can be reached at their own addresses. Volumes are directories. The images are those of
`nodeimages.py`; nothing is pulled.

Not supported: enforcement of NetworkPolicy (objects are accepted and have no effect), DNS names of Services, Ingress,
metrics, and connections to other networks.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from localcluster import cache, cgroups, components, netns, nodeconfig, processes, provisioner
from localcluster.addresses import Network, free_network, routed_ranges
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.netns import Namespace
from localcluster.nodeconfig import NODE
from localcluster.starter import Starter
from localcluster.state import State

SYSCTLS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""The sysctls that kubelet sets for the whole machine when it starts. Their old values are restored once the node is ready."""

API_PORT = 6443

PROVISIONER = "provisioner"
"""The name of the provisioner, the only program of a node that runs outside of the node's Linux namespaces."""


def start(starter: Starter, kube: Path, images: Iterable[Path]) -> None:
    """Start a new cluster. `kube` is the path of the executable of Kubernetes, and `images` are the tar files of its images.

    Raises ClusterError if that fails.
    """
    layout, undo = starter.layout, starter.state.undo
    nodeconfig.check_length(layout)
    network = _create_veth(starter)
    settings = components.Settings(
        address=network.node,
        port=API_PORT,
        etcd_port=2379,
        services=str(network.services),
        service_address=str(network.services[1]),
    )
    starter.state.server = settings.server
    undo["control group"] = group = f"localcluster-{network.number}"
    starter.save()
    components.link_programs(layout, kube, {})
    nodeconfig.write(layout, settings, network, components.write_keys(layout, settings), group)
    cgroups.create(group)

    namespace = _create_namespace(starter, network)
    starter.run("containerd", nodeconfig.containerd_command(layout), namespace.launch)
    api = Api(settings.server, layout.keys)
    options = nodeconfig.apiserver_options(layout)
    starter.run_control_plane(settings, api, options, namespace.launch)
    import_images(namespace, images)
    starter.report("images imported")
    # One node at a time: the next one would record what this kubelet has set as the machine's own values.
    with cache.locked(cache.root() / "sysctls.lock"):
        for name in SYSCTLS:
            undo[f"sysctl {name}"] = Path("/proc/sys", name).read_text().strip()
        for name, command in nodeconfig.node_commands(layout, network).items():
            starter.run(name, command, namespace.launch)
        starter.wait("node ready", lambda: api.node_ready(NODE))
        _restore_sysctls(undo)
    api.apply("/apis/storage.k8s.io/v1/storageclasses/standard", provisioner.STORAGE_CLASS)
    volumes = layout.run / "volumes"
    arguments = [settings.server, str(layout.keys), str(volumes), NODE]
    source = str(Path(__file__).parents[1])
    starter.run(
        PROVISIONER,
        ["/usr/bin/env", f"PYTHONPATH={source}", sys.executable, "-m", "localcluster.provisioner", *arguments],
    )
    starter.wait_for_default_account(api)


def wait_until_usable(starter: Starter, api: Api) -> None:
    """Wait until pods can be created and scheduled. Raises ClusterError if that takes too long, or if a program exits."""
    starter.wait("node ready", lambda: api.node_ready(NODE))
    starter.wait_for_default_account(api)


def namespace_alive(state: State) -> bool:
    """Whether the Linux namespaces of the recorded cluster still exist. Its programs can only be started again in them."""
    first = state.processes.get("namespace")
    return first is not None and processes.alive(first)


def launcher_for(name: str, state: State) -> processes.Launch:
    """Return the function that starts the program `name`: in the node's Linux namespaces, or on this machine.

    The provisioner, and all programs of a cluster without a real node, are started on this machine.
    """
    first = state.processes.get("namespace")
    return processes.launch if first is None or name == PROVISIONER else Namespace(first.pid).launch


def clean_up(undo: dict[str, str]) -> None:
    """Undo those changes to this machine that stay after the processes of a node have ended: veth pair, sysctls, control group.

    Raises ClusterError if one of them cannot be undone.
    """
    if "veth" in undo:
        _remove_veth(undo["veth"])
    _restore_sysctls(undo)
    if "control group" in undo:
        cgroups.remove(undo["control group"])


def _remove_veth(name: str) -> None:
    interface = Path("/sys/class/net", name)
    try:
        if interface.exists():
            netns.run(["ip", "link", "delete", name])
    except ClusterError:
        # The kernel also removes the interface, some time after the namespace of its other end is gone.
        if interface.exists():
            raise


def _create_veth(starter: Starter) -> Network:
    """Return the addresses of a new node, and create its veth pair, which reserves the addresses.

    Raises ClusterError if no addresses are free, or if the veth pair cannot be created.
    """
    used = routed_ranges(json.loads(netns.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"))
    for _attempt in range(10):
        network = free_network(used)
        try:
            netns.run(["ip", "link", "add", network.veth_name, "type", "veth", "peer", "name", network.peer_name])
        except ClusterError:
            used.append(network.veth)  # another start has created it in the meantime
            continue
        starter.state.undo["veth"] = network.veth_name
        starter.save()
        return network
    raise ClusterError("this machine cannot create a veth pair")


def _create_namespace(starter: Starter, network: Network) -> Namespace:
    """Create the node's Linux namespaces and set up their network.

    One end of the veth pair is moved into the namespaces. This machine gets routes to the pods and Services.
    """

    def record(process: processes.Process) -> None:
        starter.state.processes[process.name] = process
        starter.save()

    namespace = netns.create(starter.layout.log("namespace"), record)
    peer, veth = network.peer_name, network.veth_name
    netns.run(["ip", "link", "set", peer, "netns", str(namespace.pid)])
    netns.run(["ip", "address", "add", f"{network.host}/30", "dev", veth])
    netns.run(["ip", "link", "set", veth, "up"])
    for destination in (network.pods, network.services):
        netns.run(["ip", "route", "add", str(destination), "via", network.node, "dev", veth])
    namespace.run(["/bin/sh", "-ec", nodeconfig.SETUP, "setup", *nodeconfig.setup_arguments(starter.layout, network)])
    starter.report(f"network of the node: {network.node}, pods {network.pods}, Services {network.services}")
    return namespace


def import_images(namespace: Namespace, images: Iterable[Path]) -> None:
    """Import container images into the containerd of the node. `images` are their tar files.

    Raises ClusterError if an import fails.
    """
    control = ["ctr", f"--address={nodeconfig.CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import"]
    for archive in images:
        namespace.run([*control, str(archive)])


def _restore_sysctls(undo: dict[str, str]) -> None:
    for key, value in undo.items():
        kind, _, name = key.partition(" ")
        path = Path("/proc/sys", name)
        if kind == "sysctl" and path.read_text().strip() != value:
            path.write_text(value)
