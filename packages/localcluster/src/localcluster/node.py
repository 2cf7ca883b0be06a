"""The profile `node`: one node that runs real containers, with containerd, kubelet and kube-proxy.

The whole cluster lives in namespaces of its own, reached from this machine by a virtual cable: the API server, pods and
Services answer at their addresses. Volumes are directories, images are those of `nodeimages.py`; nothing is pulled.

What it has not: enforcement of NetworkPolicy (objects are taken and have no effect), names of Services in DNS, Ingress,
metrics, and a way out to other networks.
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
"""What kubelet sets for the whole machine as it starts; we put it back at once."""

API_PORT = 6443

PROVISIONER = "provisioner"
"""The one program of a node that runs outside of its namespace."""


def start(starter: Starter, kube: Path, images: Iterable[Path]) -> None:
    """Bring a new cluster up with these programs and images. ClusterError where it does not come up."""
    layout, undo = starter.layout, starter.state.undo
    network = _lay_cable(starter)
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

    namespace = _enter(starter, network)
    starter.run("containerd", nodeconfig.containerd_command(layout), namespace.launch)
    api = Api(settings.server, layout.keys)
    options = nodeconfig.apiserver_options(layout)
    starter.run_control_plane(settings, api, options, namespace.launch)
    import_images(namespace, images)
    starter.report("images imported")
    # One node at a time, or the next would take for the machine's own what this kubelet has set.
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
    """Wait until the node takes pods. ClusterError where that takes too long."""
    starter.wait("node ready", lambda: api.node_ready(NODE))
    starter.wait_for_default_account(api)


def namespace_lives(state: State) -> bool:
    """Whether the namespaces of a recorded cluster are still there; without them nothing of it can be restarted."""
    first = state.processes.get("namespace")
    return first is not None and processes.alive(first)


def launch_of(name: str, state: State) -> processes.Launch:
    """How the program of that name is started, in a cluster of any profile: inside the namespace if it has one."""
    first = state.processes.get("namespace")
    return processes.launch if first is None or name == PROVISIONER else Namespace(first.pid).launch


def clean_up(undo: dict[str, str]) -> None:
    """Undo what the end of a node's processes does not. ClusterError where something cannot be undone."""
    if "cable" in undo:
        _remove_cable(undo["cable"])
    _restore_sysctls(undo)
    if "control group" in undo:
        cgroups.remove(undo["control group"])


def _remove_cable(name: str) -> None:
    interface = Path("/sys/class/net", name)
    try:
        if interface.exists():
            netns.run(["ip", "link", "delete", name])
    except ClusterError:
        # The kernel takes it away by itself, some time after the namespace that had its other end.
        if interface.exists():
            raise


def _lay_cable(starter: Starter) -> Network:
    """Take an address range that is free, by making the interface that is named after it."""
    used = routed_ranges(json.loads(netns.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"))
    for _attempt in range(10):
        network = free_network(used)
        try:
            netns.run(["ip", "link", "add", network.cable_name, "type", "veth", "peer", "name", network.peer_name])
        except ClusterError:
            used.append(network.cable)  # another start took it between our look and now
            continue
        starter.state.undo["cable"] = network.cable_name
        starter.save()
        return network
    raise ClusterError("no virtual network cable (veth) can be made on this machine")


def _enter(starter: Starter, network: Network) -> Namespace:
    """Make the namespaces, put the other end of the cable in, and route this machine's way to pods and Services."""

    def note(process: processes.Process) -> None:
        starter.state.processes[process.name] = process
        starter.save()

    namespace = netns.create(starter.layout.log("namespace"), note)
    peer, cable = network.peer_name, network.cable_name
    netns.run(["ip", "link", "set", peer, "netns", str(namespace.pid)])
    netns.run(["ip", "address", "add", f"{network.machine}/30", "dev", cable])
    netns.run(["ip", "link", "set", cable, "up"])
    for destination in (network.pods, network.services):
        netns.run(["ip", "route", "add", str(destination), "via", network.node, "dev", cable])
    namespace.run(["/bin/sh", "-ec", nodeconfig.SETUP, "setup", *nodeconfig.setup_arguments(starter.layout, network)])
    starter.report(f"network of the node: {network.node}, pods {network.pods}, Services {network.services}")
    return namespace


def import_images(namespace: Namespace, images: Iterable[Path]) -> None:
    """Give the node these images. ClusterError where one is not taken."""
    control = ["ctr", f"--address={nodeconfig.CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import"]
    for archive in images:
        namespace.run([*control, str(archive)])


def _restore_sysctls(undo: dict[str, str]) -> None:
    for key, value in undo.items():
        kind, _, name = key.partition(" ")
        path = Path("/proc/sys", name)
        if kind == "sysctl" and path.read_text().strip() != value:
            path.write_text(value)
