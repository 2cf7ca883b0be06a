"""Dufs: one static binary that serves a directory over HTTP and WebDAV. It cannot authenticate by a proxy header."""

from userstorage_operator.api import variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import AuthMode, UserStorageClass
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser

IMAGE = "docker.io/sigoden/dufs:v0.47.0"
_NO_DIRECTORY = ".userstorage-no-such-directory"


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of a pod that runs Dufs. Raises InvalidSpec for an auth mode or permissions that Dufs lacks."""
    if cls.auth_mode is not AuthMode.NONE:
        raise InvalidSpec(
            "class spec.auth.mode: flavor Dufs cannot check a proxy header; set None and acknowledgeUnauthenticated"
        )
    browser = cls.browser
    base_path = variables.base_path(storage, cls)
    health = variables.health_path(storage, cls) or f"{base_path}__dufs__/health"
    return Browser(
        image=browser.image or IMAGE,
        command=browser.command or ("/bin/dufs",),
        args=(
            FILES_MOUNT,
            f"--port={browser.port}",
            f"--path-prefix={base_path}",
            *_permissions(storage, cls),
            *browser.args,
        ),
        env=browser.env,
        startup_probe=probes.startup(probes.http(health, browser.port)),
        readiness_probe=_readiness(base_path, storage, cls),
        liveness_probe=probes.liveness(probes.http(health, browser.port)),
        default_resources={"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        # As process 1, Dufs ignores SIGTERM: each deletion would take the whole grace period.
        stop_signal="SIGINT",
    )


def _readiness(base_path: str, storage: UserStorage, cls: UserStorageClass) -> probes.Probe:
    """Return a probe whose response is an error if the volume is gone. The image has no shell, and Dufs no page for that.

    If uploads are allowed, Dufs lists a directory that does not exist as an empty one, after it has looked for it and for the root. A
    list of the root takes ten seconds for 300,000 files: only if nothing else is possible, with pauses that make up for it, so that the first failure
    counts.
    """
    if _may_upload(storage, cls):
        return probes.readiness(probes.http(f"{base_path}{_NO_DIRECTORY}/?simple", cls.browser.port))
    listing = probes.http(f"{base_path}?simple", cls.browser.port)
    return probes.readiness(listing) | {"periodSeconds": 60, "timeoutSeconds": 60, "failureThreshold": 1}


def _may_upload(storage: UserStorage, cls: UserStorageClass) -> bool:
    return cls.browser.permissions.create and not storage.storage.read_only


def _permissions(storage: UserStorage, cls: UserStorageClass) -> tuple[str, ...]:
    """Return the options for the permissions. `--allow-symlink` is never set: Dufs would follow links out of the volume."""
    permissions = cls.browser.permissions
    if not permissions.download:
        raise InvalidSpec("class spec.browser.permissions.download: flavor Dufs cannot forbid downloads")
    if permissions.share:
        raise InvalidSpec("class spec.browser.permissions.share: flavor Dufs has no sharing")
    if not permissions.modify == permissions.rename == permissions.delete:
        raise InvalidSpec(
            "class spec.browser.permissions: flavor Dufs cannot distinguish modify, rename and delete; set all three alike"
        )
    options = ["--allow-search", "--allow-archive"]
    if _may_upload(storage, cls):
        options.append("--allow-upload")
    if permissions.delete and not storage.storage.read_only:
        options.append("--allow-delete")
    return tuple(options)
