"""Copyparty: a file manager with resumable uploads and WebDAV. Rights of its one volume pin the owner, without a password."""

from userstorage_operator.api import variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import AuthMode, UserStorageClass
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment, literal

IMAGE = "docker.io/copyparty/min:1.20.26"
_STATE = "/state"
_OWNER = "owner"
"""The program's name for the user. The volume cannot name the user id, whose characters may grant other rights, or none."""
_SEPARATOR = "\n"
"""Separates the parts of `--idp-hm-usr`: a line break, because neither the name nor the value of a header can have one."""


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of a pod that runs Copyparty. Raises InvalidSpec for permissions that Copyparty cannot distinguish."""
    browser = cls.browser
    base_path = variables.base_path(storage, cls)
    health = variables.health_path(storage, cls)
    # A page of the program itself: `/` lists the root, which takes seconds with 300,000 files.
    page = health or f"{base_path}.cpr/ui.css"
    # Its pages look for a file of that name in the volume first, and a restart does not repair a volume.
    alive = probes.http(health, browser.port) if health else probes.tcp(browser.port)
    own = {
        "XDG_CONFIG_HOME": _STATE,
        "PRTY_NO_ENVEXPAND": "1",  # a user id may have `${NAME}` in it
    }
    return Browser(
        image=browser.image or IMAGE,
        command=browser.command or ("python3", "-m", "copyparty"),
        args=(*_options(base_path, storage, cls), *browser.args),
        env=environment(own, browser),
        startup_probe=probes.startup(alive),
        readiness_probe=probes.readiness(probes.sees_volume(page, browser.port)),
        liveness_probe=probes.liveness(alive),
        # A list of 300,000 files takes 636 MiB (benchmarks/browsers.py).
        default_resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        scratch=(Scratch("state", _STATE, "256Mi"),),
    )


def _options(base_path: str, storage: UserStorage, cls: UserStorageClass) -> tuple[str, ...]:
    """Return the options of the program. It has no accounts: a request is made by the owner or by a visitor without rights."""
    return (
        "-i=::",
        f"-p={cls.browser.port}",
        *([f"--rp-loc={base_path.rstrip('/')}"] if base_path != "/" else []),
        *_access(_rights(storage, cls), storage, cls),
        "--http-only",
        "--no-crt",
        "--no-ses",
        "--no-bauth",  # the gateway checks passwords, and may pass them on
        # The gateway is the peer of all requests: a ban would shut out the owner with a stranger.
        "--dont-ban=any",
        "--loris=0",
        "--rproxy=-1",
        "--xf-proto-fb=http",
        f"--hist={_STATE}",  # else a directory in the user's volume
        "--unpost=0",  # else uploads can be deleted without the permission
        "--rw-edit=",  # else Markdown files can be changed without the permission
        "--no-thumb",  # the preview of a large photo takes more memory than all else
        "--no-ansi",
        "-nih",
    )


def _access(rights: str, storage: UserStorage, cls: UserStorageClass) -> tuple[str, ...]:
    """Return the options that grant `rights` on the volume: to the owner alone, or to every visitor if auth.mode is None.

    A request is the owner's if the value of the proxy's header is the user id.
    """
    flags = ":c,xvol" + (":c,daw" if "d" in rights else "")  # xvol: no links out of the volume; daw: PUT replaces a file
    if cls.auth_mode is AuthMode.NONE:
        return (f"-v={FILES_MOUNT}::{rights}{flags}",)
    owner = _SEPARATOR.join(("", cls.auth_header, storage.user_id, _OWNER))
    return (
        f"-v={FILES_MOUNT}::{rights},{_OWNER}{flags}",
        f"--idp-hm-usr={literal(owner)}",
        "--idp-store=0",
        "--auth-ord=idp",
        "--xff-src=0.0.0.0/0,::/0",  # the NetworkPolicy decides which peers are gateways
    )


def _rights(storage: UserStorage, cls: UserStorageClass) -> str:
    """Return the letters of the rights on the volume. Raises InvalidSpec if no rights are exactly these permissions."""
    permissions = cls.browser.permissions
    if not permissions.download:
        raise InvalidSpec("class spec.browser.permissions.download: flavor Copyparty cannot forbid downloads")
    if permissions.share:
        raise InvalidSpec("class spec.browser.permissions.share: flavor Copyparty forgets shares with the pod; leave it false")
    if permissions.modify != permissions.delete:
        raise InvalidSpec(
            "class spec.browser.permissions.delete: flavor Copyparty cannot distinguish modify and delete; set both alike"
        )
    if (permissions.rename or permissions.modify) and not permissions.create:
        raise InvalidSpec(
            "class spec.browser.permissions.create: flavor Copyparty needs create for rename and modify; allow it or forbid all"
        )
    rights = "r."  # "." for hidden files
    if storage.storage.read_only or not permissions.create:
        return rights
    return rights + "w" + ("m" if permissions.rename else "") + ("d" if permissions.delete else "")
