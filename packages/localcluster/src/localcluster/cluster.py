"""Starts, describes and stops a cluster of any profile."""

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster import builds, cache, components, controlplane, node, nodeimages, packages, processes, state
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.netns import Namespace
from localcluster.progress import Report, silent
from localcluster.starter import Starter


class Profile(enum.StrEnum):
    """What a cluster consists of: a control plane with fake nodes, of one of two versions, or one node that runs real containers."""

    CONTROL_PLANE = "control-plane"
    OLDEST_CONTROL_PLANE = "control-plane-1.32"
    NODE = "node"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its files and programs. `processes` maps program names, such as kube-apiserver, to PIDs."""

    profile: Profile
    directory: Path
    kubeconfig: Path
    kubectl: Path
    processes: dict[str, int]


BROWSERS = tuple(nodeimages.BROWSERS)
"""The file browsers of which a node has images."""


def build(profile: Profile, report: Report = silent) -> None:
    """Build the programs and images of a profile into the per-user cache, without starting a cluster.

    Raises ClusterError if a build fails.
    """
    builds.build_go(builds.kube_program(), report)
    if profile is Profile.NODE:
        packages.ensure(report)
        nodeimages.build(BROWSERS, report)
    else:
        _build_control_plane(profile, report)


def start(profile: Profile | str, directory: Path, report: Report = silent, browsers: Collection[str] = BROWSERS) -> Cluster:
    """Return the running cluster whose files are in `directory`; build and start it first if it does not run.

    The cluster keeps running when the calling process exits. Of the profile `node`, a new cluster has the images of `browsers`.

    Programs of a running cluster that have exited are started again. Raises ClusterError if the cluster does not start, or
    if `directory` has a cluster of another profile. A new cluster that does not start is stopped; its logs are kept.
    """
    profile = Profile(profile)
    layout = Layout(directory.absolute())
    layout.directory.mkdir(parents=True, exist_ok=True)
    with cache.locked(layout.lock):
        found = state.read(layout.state)
        if found is not None and found.profile != profile:
            raise ClusterError(f"{layout.directory} has a cluster of profile {found.profile}: stop it first")
        if found is not None and _can_resume(found):
            running = found
            _restart_exited(Starter(layout, running, report))
        else:
            if found is not None:
                _stop(found)
            layout.reset()
            running = state.State(profile=profile, server="")
            _start_new(Starter(layout, running, report), browsers)
        return _describe(layout, running)


def stop(directory: Path) -> None:
    """Stop the cluster whose files are in `directory`, and delete these files. A missing directory is no error."""
    layout = Layout(directory.absolute())
    if not layout.directory.is_dir():
        return
    with cache.locked(layout.lock):
        found = state.read(layout.state)
        if found is not None:
            _stop(found)
        layout.clear()


def load_images(directory: Path, archives: Iterable[Path]) -> None:
    """Import container images into the node of the cluster in `directory`, so that its pods can use them.

    `archives` are the tar files of the images. Raises ClusterError if there is no cluster of the profile `node`, or if an
    import fails.
    """
    found = state.read(Layout(directory.absolute()).state)
    if found is None or "namespace" not in found.processes:
        raise ClusterError(f"{directory} has no cluster of profile node to load images into")
    node.import_images(Namespace(found.processes["namespace"].pid), archives)


def status(directory: Path) -> dict[str, bool]:
    """Return for each program of the cluster in `directory`, by name, whether it runs. Empty if there is no cluster."""
    found = state.read(Layout(directory.absolute()).state)
    return {} if found is None else {p.name: processes.alive(p) for p in found.processes.values()}


def _build_control_plane(profile: str, report: Report) -> dict[str, Path]:
    """Return the executables of a control plane with fake nodes that are not in `kube`, by program name."""
    programs = {"kwok": builds.build_go(builds.KWOK, report)}
    if profile == Profile.OLDEST_CONTROL_PLANE:
        programs |= dict.fromkeys(components.CONTROL_PLANE, builds.build_go(builds.kube_program(builds.OLDEST), report))
    return programs


def _start_new(starter: Starter, browsers: Collection[str]) -> None:
    layout, report = starter.layout, starter.report
    try:
        if starter.state.profile == Profile.NODE:
            packages.ensure(report)
        kube = builds.build_go(builds.kube_program(), report)
        if starter.state.profile == Profile.NODE:
            node.start(starter, kube, nodeimages.build(browsers, report))
        else:
            controlplane.start(starter, kube, _build_control_plane(starter.state.profile, report))
        starter.state.ready = True
        starter.save()
    except BaseException:
        _stop(starter.state)
        layout.state.unlink(missing_ok=True)  # the logs stay: they say why
        raise


def _can_resume(found: state.State) -> bool:
    """Whether the exited programs of the recorded cluster can be started again.

    True if the cluster had started completely, and the Linux namespaces of its real node, if it has one, still exist.
    """
    return found.ready and (found.profile != Profile.NODE or node.namespace_alive(found))


def _restart_exited(starter: Starter) -> None:
    """Start the exited programs of a cluster again, and wait until the cluster is usable."""
    exited = [process for process in starter.state.processes.values() if not processes.alive(process)]
    for process in exited:
        starter.report(f"{process.name} had exited: starting it again")
        launch = node.launcher_for(process.name, starter.state)
        starter.run(process.name, process.command, launch)
    if exited:
        api = Api(starter.state.server, starter.layout.keys)
        starter.wait("API server ready", api.ready)
        profile = node if starter.state.profile == Profile.NODE else controlplane
        profile.wait_until_usable(starter, api)


def _stop(running: state.State) -> None:
    """Kill the processes of a cluster and undo its other changes to this machine, except for the files in its directory."""
    processes.kill(running.processes.values())
    node.clean_up(running.undo)


def _describe(layout: Layout, running: state.State) -> Cluster:
    pids = {name: process.pid for name, process in running.processes.items()}
    return Cluster(Profile(running.profile), layout.directory, layout.kubeconfig, layout.kubectl, pids)
