"""File Browser Quantum, the maintained fork: behind an authenticating proxy, or open. One YAML file configures it.

Its releases 1.5 and 2.0 want the same facts under other names, and end at once on a name they do not know. Which one an
image holds is read from its tag, as nothing else about an image is known before it runs.
"""

import json
import re
from typing import Any

from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import AuthMode, UserStorageClass
from userstorage_operator.api.variables import expand
from userstorage_operator.browsers import probes
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser, Scratch
from userstorage_operator.browsers.environment import environment

IMAGE = "docker.io/gtstef/filebrowser:1.5.6-stable"
_PROGRAM = "/home/filebrowser/filebrowser"
_STATE = "/database"
_CONFIG = f"{_STATE}/config.yaml"
_DATABASE_VARIABLE = {1: "FILEBROWSER_DATABASE", 2: "FILEBROWSER_DATABASE_PATH"}
"""Of each major version; 2 ends at once where it finds the variable of 1."""
_MAJOR = re.compile(r":v?([0-9]+)(?:[.-][^/:]*)?$")
_RANDOM = "@random@"
"""Stands in the configuration for what the init container draws."""

Config = dict[str, Any]


def render(storage: UserStorage, cls: UserStorageClass) -> Browser:
    """Users, settings and the index live on scratch space: the init container makes them anew with each pod."""
    browser = cls.browser
    image = browser.image or IMAGE
    major = _major(image)
    base_path = expand(browser.base_path, storage)
    health = browser.health_path or f"{base_path}health"  # elsewhere it redirects, which would pass for success
    where = {"FILEBROWSER_CONFIG": _CONFIG, _DATABASE_VARIABLE[major]: f"{_STATE}/quantum.db"}
    return Browser(
        image=image,
        command=browser.command or (_PROGRAM,),
        args=browser.args,
        env=environment(where, browser),
        init_command=_configure(_config(major, base_path, storage, cls)),
        startup_probe=probes.startup(probes.http(health, browser.port)),
        readiness_probe=probes.readiness(probes.sees_volume(health, browser.port)),
        liveness_probe=probes.liveness(probes.http(health, browser.port)),
        default_resources={"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        # Uploads and archives are put together in /tmp before they go to the volume.
        scratch=(Scratch("database", _STATE, "64Mi"), Scratch("tmp", "/tmp", "10Gi")),  # noqa: S108  # in the pod
    )


def _major(image: str) -> int:
    """The major version by the tag, which may stand before a digest. Raises InvalidSpec where there is none to read."""
    found = _MAJOR.search(image.partition("@")[0])
    if found is None or int(found[1]) not in _DATABASE_VARIABLE:
        raise InvalidSpec(
            f"class spec.browser.image: flavor Quantum is configured by its major version, and the tag of {image!r} does not"
            " say 1 or 2; name it as in 1.5.6-stable or 1.5.6-stable@sha256:…"
        )
    return int(found[1])


def _configure(config: Config) -> tuple[str, ...]:
    """Write the configuration (JSON is YAML) with random words in it.

    Whoever a proxy calls by the administrator's name is one, so that name must be known to nobody; drawn in the pod, it
    does not change the pod's hash either. The state of an earlier run, as after a reboot of the node, is removed.
    """
    script = (
        f"set -e; rm -rf {_STATE}/*; word=; "
        'for part; do printf %s "$word$part"; read -r word </proc/sys/kernel/random/uuid; done '
        f">{_CONFIG}"
    )
    return ("/bin/sh", "-c", script, "configure", *json.dumps(config, sort_keys=True).split(_RANDOM))


def _config(major: int, base_path: str, storage: UserStorage, cls: UserStorageClass) -> Config:
    """All that the program is told. Names as in the releases' own documentation; unknown ones end it."""
    files, account = _permissions(storage, cls)
    listen: Config = {"port": cls.browser.port, "baseURL": base_path}
    source: Config = {"defaultEnabled": True, "private": not cls.browser.permissions.share}
    if storage.storage.read_only:
        source["readOnly"] = True
    server: Config = {
        "sources": [{"path": FILES_MOUNT, "name": "files", "config": source}],
        "cacheDir": "/tmp/cache",  # noqa: S108  # in the pod
        "maxArchiveSize": 5,
        "disableUpdateCheck": True,
    }
    if major == 1:
        defaults = {"permissions": files | account}
        return {"server": server | listen, "auth": _auth(major, cls), "userDefaults": defaults}
    source["defaultPermissions"] = files | {"view": True}
    defaults = {"account": {"permissions": account}}
    return {"http": listen, "server": server, "auth": _auth(major, cls), "userDefaults": defaults}


def _auth(major: int, cls: UserStorageClass) -> Config:
    """Login by password is off either way; a word nobody knows is set all the same, as the default one is known."""
    methods: Config = {"password": {"enabled": False}}
    if cls.auth_mode is AuthMode.NONE:
        return {"adminUsername": "visitor", "adminPassword": _RANDOM, "methods": methods | {"noauth": True}}
    proxy: Config = {"enabled": True, "header": cls.auth_header}
    if major == 1:
        proxy["createUser"] = True  # later versions always do
    return {"adminUsername": _RANDOM, "adminPassword": _RANDOM, "methods": methods | {"proxy": proxy}}


def _permissions(storage: UserStorage, cls: UserStorageClass) -> tuple[Config, Config]:
    """What a new user may do with files, and the rest. Raises InvalidSpec for what the program cannot tell apart."""
    wanted = cls.browser.permissions
    if wanted.modify != wanted.rename:
        raise InvalidSpec(
            "class spec.browser.permissions.rename: flavor Quantum cannot tell rename and modify apart; set both alike"
        )
    files = {name: getattr(wanted, name) for name in ("create", "modify", "delete", "download")}
    if cls.auth_mode is AuthMode.NONE:
        for name, allowed in files.items():
            if not allowed:
                raise InvalidSpec(
                    f"class spec.browser.permissions.{name}: flavor Quantum makes every visitor an administrator where"
                    " auth.mode is None, and cannot forbid this; it can with ProxyHeader"
                )
    if storage.storage.read_only:
        files |= {"create": False, "modify": False, "delete": False}
    return files, {"admin": False, "api": False, "share": wanted.share, "realtime": False}
