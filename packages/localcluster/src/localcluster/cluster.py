"""Starting, describing and stopping a cluster, whichever its profile."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster import builds, cache, controlplane, node, nodeimages, packages, processes, state
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.netns import Namespace
from localcluster.progress import Report, silent
from localcluster.starter import Starter


class Profile(enum.StrEnum):
    """What a cluster is made of."""

    CONTROL_PLANE = "control-plane"
    NODE = "node"


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `processes` maps program names, such as etcd or kube-apiserver, to pids."""

    profile: Profile
    directory: Path
    kubeconfig: Path
    kubectl: Path
    processes: dict[str, int]


def build(profile: Profile, report: Report = silent) -> None:
    """Put everything the profile needs into the per-user cache. ClusterError where something cannot be built."""
    builds.build_go(builds.kube_program(), report)
    if profile is Profile.CONTROL_PLANE:
        builds.build_go(builds.KWOK, report)
    else:
        packages.ensure(report)
        nodeimages.make(report)


def start(profile: Profile | str, directory: Path, report: Report = silent) -> Cluster:
    """The cluster of that directory: the one that runs, or else a new one, built first where needed.

    Programs of a running cluster that have ended are started again. The cluster outlives the caller.
    ClusterError where it does not come up; what was started is then ended, and its logs are kept.
    """
    profile = Profile(profile)
    layout = Layout(directory.absolute())
    layout.directory.mkdir(parents=True, exist_ok=True)
    with cache.locked(layout.lock):
        found = state.read(layout.state)
        if found is not None and found.profile != profile:
            raise ClusterError(f"{layout.directory} has a cluster of profile {found.profile}: stop that one first")
        if found is not None and _can_go_on(found):
            running = found
            _restart_ended(Starter(layout, running, report))
        else:
            if found is not None:
                _take_down(found)
            layout.reset()
            running = state.State(profile=profile, server="")
            _start_new(Starter(layout, running, report))
        return _describe(layout, running)


def stop(directory: Path) -> None:
    """End the cluster of that directory and delete its files. Nothing happens where there is none."""
    layout = Layout(directory.absolute())
    if not layout.directory.is_dir():
        return
    with cache.locked(layout.lock):
        found = state.read(layout.state)
        if found is not None:
            _take_down(found)
        layout.clear()


def load_images(directory: Path, archives: Iterable[Path]) -> None:
    """Give the node of the cluster in that directory more images, as if it had pulled them. ClusterError where there is no
    such cluster, or where one is not taken.
    """
    found = state.read(Layout(directory.absolute()).state)
    if found is None or "namespace" not in found.processes:
        raise ClusterError(f"{directory} has no cluster of profile node to load images on")
    node.import_images(Namespace(found.processes["namespace"].pid), archives)


def status(directory: Path) -> dict[str, bool]:
    """Which programs of the cluster in that directory run; empty where there is no cluster."""
    found = state.read(Layout(directory.absolute()).state)
    return {} if found is None else {p.name: processes.alive(p) for p in found.processes.values()}


def _start_new(starter: Starter) -> None:
    layout, report = starter.layout, starter.report
    try:
        if starter.state.profile == Profile.NODE:
            packages.ensure(report)
        kube = builds.build_go(builds.kube_program(), report)
        if starter.state.profile == Profile.NODE:
            node.start(starter, kube, nodeimages.make(report))
        else:
            controlplane.start(starter, kube, builds.build_go(builds.KWOK, report))
        starter.state.ready = True
        starter.save()
    except BaseException:
        _take_down(starter.state)
        layout.state.unlink(missing_ok=True)  # the logs stay, to tell why
        raise


def _can_go_on(found: state.State) -> bool:
    """Whether a recorded cluster was up once, and what still runs of it can be completed."""
    return found.ready and (found.profile == Profile.CONTROL_PLANE or node.namespace_lives(found))


def _restart_ended(starter: Starter) -> None:
    """Start again what has ended of a cluster that was up."""
    ended = [process for process in starter.state.processes.values() if not processes.alive(process)]
    for process in ended:
        starter.report(f"{process.name} had ended: starting it again")
        launch = node.launch_of(process.name, starter.state)
        starter.run(process.name, process.command, launch)
    if ended:
        api = Api(starter.state.server, starter.layout.keys)
        starter.wait("API server ready", api.ready)
        profile = node if starter.state.profile == Profile.NODE else controlplane
        profile.wait_until_usable(starter, api)


def _take_down(running: state.State) -> None:
    """End and undo everything but the files."""
    processes.end(running.processes.values())
    node.clean_up(running.undo)


def _describe(layout: Layout, running: state.State) -> Cluster:
    pids = {name: process.pid for name, process in running.processes.items()}
    return Cluster(Profile(running.profile), layout.directory, layout.kubeconfig, layout.kubectl, pids)
