"""`report`: a bundle for support. It reads no Secret and no file of a user, and removes what looks like a secret."""

import contextlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from kubectl_userstorage import api, errors
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.cache import system_namespace_option
from kubectl_userstorage.commands.doctor import checks
from kubectl_userstorage.commands.reading import Scope
from kubectl_userstorage.options import cluster_options, run, scope_options
from kubectl_userstorage.output import progress_console, to_yaml
from kubectl_userstorage.redaction import clean, clean_text

_OURS = {"labelSelector": api.CHILD_SELECTOR}
_LINES = "5000"
"""Last lines of each log."""
_CRD_NAMES = ("userstorages.userstorage.dev", "userstorageclasses.userstorage.dev")


@click.command()
@scope_options
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: userstorage-report-TIME.tar.gz]",
)
@system_namespace_option
@cluster_options
def report(target: Target, scope: Scope, path: Path | None, system: str) -> None:
    """Write a bundle for support: objects, events and logs, without secrets. Read it before you send it.

    It contains the user ids and names of the namespace, but no file of a user and no Secret. Classes, policies and the pods, events
    and logs of the operator are those of the whole cluster; lines of the log about other namespaces are left out, unless -A is
    given. What could not be read is named in missing.txt.
    """
    path = path or Path(time.strftime("userstorage-report-%Y%m%d-%H%M%S.tar.gz"))
    if path.exists():
        raise click.BadParameter(f"{path} exists already", param_hint="--file")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {path.absolute().parent}", param_hint="--file")

    async def work(cluster: Cluster) -> dict[str, str]:
        with progress_console().status("reading") as shown:
            return await collect(
                cluster, scope(cluster.default_namespace), system, lambda name: shown.update(f"reading {name}")
            )

    files = run(target, work)
    try:
        with open(path, "xb", opener=_for_owner) as file:  # Path.open has no opener
            file.write(bundle(files))
    except OSError as error:
        raise errors.CommandError(f"--file {path}: {error.strerror or error}") from error
    click.echo(f"{path}: {len(files)} files")


async def collect(cluster: Cluster, namespace: str | None, system: str, on_progress: Callable[[str], None]) -> dict[str, str]:
    """Return the content of the bundle: path -> text without secrets. `missing.txt` names what could not be read, and why."""
    files: dict[str, str] = {}
    missing: list[str] = []

    async def objects(name: str, resource: api.Resource, where: str | None, params: dict[str, str] | None = None) -> None:
        on_progress(name)
        try:
            found = await cluster.list_all(resource, where, params)
        except errors.CommandError as error:
            missing.append(f"{name}: {error.message}")
        else:
            files[name] = to_yaml(clean(found))

    on_progress("doctor")
    files["doctor.json"] = json.dumps([clean(check._asdict()) for check in await checks(cluster, system)], indent=2)
    await objects("userstorages.yaml", api.USER_STORAGES, namespace)
    await objects("classes.yaml", api.CLASSES, None)
    for resource in (api.PODS, api.CLAIMS, api.SERVICES, api.NETWORK_POLICIES):
        await objects(f"children/{resource.plural}.yaml", resource, namespace, _OURS)
    await objects("events.yaml", api.EVENTS, namespace)
    await objects("admission/policies.yaml", api.ADMISSION_POLICIES, None)
    await objects("admission/bindings.yaml", api.ADMISSION_BINDINGS, None)
    for name in _CRD_NAMES:
        await objects(f"crds/{name}.yaml", api.CRDS, None, {"fieldSelector": f"metadata.name={name}"})
    for resource in (api.DEPLOYMENTS, api.PODS, api.LEASES):
        await objects(f"operator/{resource.plural}.yaml", resource, system)
    await objects("operator/events.yaml", api.EVENTS, system)
    try:
        for pod in await cluster.list_all(api.PODS, system, {"labelSelector": api.OPERATOR_SELECTOR}):
            name = pod["metadata"]["name"]
            on_progress(f"log of {name}")
            log = await cluster.text(f"{api.PODS.base}/namespaces/{system}/pods/{name}/log", {"tailLines": _LINES})
            kept = log.splitlines(keepends=True) if namespace is None else log_lines(log, namespace)
            if left_out := len(log.splitlines()) - len(kept):
                missing.append(f"operator/{name}.log: {left_out} lines about other namespaces, or not JSON; -A has them")
            files[f"operator/{name}.log"] = clean_text("".join(kept))
    except errors.CommandError as error:
        missing.append(f"operator logs: {error.message}")
    files["missing.txt"] = clean_text("\n".join(missing) + "\n")
    return files


def log_lines(log: str, namespace: str) -> list[str]:
    """Return the lines of the operator's log, in JSON, that are about a namespace or about none."""
    found = []
    for line in log.splitlines(keepends=True):
        with contextlib.suppress(ValueError, AttributeError):
            if json.loads(line).get("namespace", namespace) == namespace:
                found.append(line)
    return found


def bundle(files: dict[str, str]) -> bytes:
    """Return a tar.gz with these files in one directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"userstorage-report/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _for_owner(name: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(name, flags, 0o600)
