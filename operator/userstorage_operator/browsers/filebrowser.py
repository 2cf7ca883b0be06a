"""File Browser (archived on 2026-09-01; v2.63.23 is the last release), behind an authenticating proxy or without login."""

from userstorage_operator.api import variables
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import AuthMode, UserStorageClass
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment, go_memory_limit, literal

IMAGE = "docker.io/filebrowser/filebrowser:v2.63.23"
_PROGRAM = "/bin/filebrowser"  # not the image's init script, which writes to the read-only root
_DATABASE = "/database/filebrowser.db"
_GENERATE = "read -r a </proc/sys/kernel/random/uuid && read -r b </proc/sys/kernel/random/uuid && password=$a$b"
"""Sets `password` in a shell to 72 random characters, which are as many as the program can hash."""
_RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Return the parts of a pod that runs File Browser. An init container creates its database of users and settings."""
    browser = cls.browser
    base_path = variables.base_path(storage, cls)
    health = variables.health_path(storage, cls) or f"{base_path}health"
    serve = (
        f"--database={_DATABASE}",
        f"--root={FILES_MOUNT}",
        "--address=",  # all addresses, IPv4 and IPv6
        f"--port={browser.port}",
        f"--baseURL={base_path.rstrip('/')}",
        # A photo of 48 megapixels takes half a gigabyte to resize, and the cache of the results has no limit. The page shows the
        # photos themselves instead.
        "--disableThumbnails",
        "--disablePreviewResize",
        "--disableExec",
    )
    return Browser(
        image=browser.image or IMAGE,
        command=browser.command or (_PROGRAM,),
        args=(*serve, *browser.args),
        env=environment(go_memory_limit(browser.resources or _RESOURCES), browser),
        init_command=_configure(storage, cls),
        startup_probe=probes.startup(probes.http(health, browser.port)),
        readiness_probe=probes.readiness(probes.sees_volume(health, browser.port)),
        liveness_probe=probes.liveness(probes.http(health, browser.port)),
        default_resources=_RESOURCES,
        scratch=(Scratch("database", "/database", "64Mi"), Scratch("tmp", "/tmp", "64Mi")),  # noqa: S108  # in the pod
        end_of_life="File Browser was archived on 2026-09-01; v2.63.23 is its last release and gets no security fixes",
    )


def _configure(storage: UserStorage, cls: UserStorageClass) -> tuple[str, ...]:
    """Return the init container's command, which creates the database: the server has no flags for auth method and permissions.

    The command deletes an old database first: after a reboot of the node the init container runs again, the directory still has
    the database, and the program refuses to initialise it. It also creates the only account. Without a proxy every visitor is
    the first user of the database, whom the server would create as an administrator. Behind a proxy the account is the owner's.
    The server would create one for any other name, with a random password of 32 characters: less than the required length, so
    it refuses the login instead.
    """
    if cls.auth_mode is AuthMode.PROXY_HEADER:
        method = ["--auth.method=proxy", f"--auth.header={cls.auth_header}", "--minimumPasswordLength=64"]
        name, set_password = storage.user_id, _GENERATE
    else:
        method = ["--auth.method=noauth"]
        name, set_password = "visitor", "password=password-that-opens-nothing"
    script = (
        f'name=$1 && shift && rm -f {_DATABASE} && {_PROGRAM} "$@" --database={_DATABASE} && {set_password}'
        f' && {_PROGRAM} users add --database={_DATABASE} --lockPassword -- "$name" "$password"'
    )
    return (
        "/bin/sh",
        "-c",
        script,
        "configure",
        literal(name),
        "config",
        "init",
        *method,
        f"--root={FILES_MOUNT}",
        *_permissions(storage, cls),
    )


def _permissions(storage: UserStorage, cls: UserStorageClass) -> tuple[str, ...]:
    allowed = cls.browser.permissions
    writable = not storage.storage.read_only
    permissions = {
        "create": allowed.create and writable,
        "modify": allowed.modify and writable,
        "rename": allowed.rename and writable,
        "delete": allowed.delete and writable,
        "download": allowed.download,
        "share": allowed.share,
        "execute": False,
    }
    return tuple(f"--perm.{name}={str(value).lower()}" for name, value in permissions.items())
