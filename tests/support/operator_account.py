"""Logins of the operator's own account, and what the API server saw of each in its audit log."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured

SYSTEM = "userstorage-system"
NAME = "userstorage-operator"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{NAME}"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass(frozen=True, slots=True)
class Login:
    """A kubeconfig with a token of its own, by which the audit log tells it from every other."""

    kubeconfig: Path
    credential: str


def log_in(api: Kubectl, directory: Path, account: str = NAME, namespace: str = SYSTEM) -> Login:
    """A new login of a service account, by default the operator's, with the rights that it has and no other."""
    token = api.run("create", "token", account, "-n", namespace, "--duration=4h").stdout.strip()
    config = json.loads(api.run("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))
    return Login(path, f"JTI={claims['jti']}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a resource, answered."""

    credential: str
    verb: str
    group: str
    resource: str
    """With the subresource behind a slash."""
    received: datetime
    answered: datetime
    code: int
    forbidden: bool
    """By RBAC; admission and a namespace that ends answer 403 as well."""

    @property
    def is_write(self) -> bool:
        """Whether it changes something, or would."""
        return self.verb in WRITES


def audit_log(api: Kubectl) -> Path:
    """Of a local cluster: every write, and whatever else the accounts of the operator's namespace ask for."""
    return api.kubeconfig.parent / "logs/audit.jsonl"


def requests(api: Kubectl, *credentials: str) -> Iterator[Request]:
    """Those made with one of the credentials, in the order of their answers."""
    with audit_log(api).open() as log:
        for line in log:
            if _CREDENTIAL in line and line.endswith("\n"):
                event = json.loads(line)
                [credential] = event["user"]["extra"][_CREDENTIAL]
                if credential in credentials and "resource" in event.get("objectRef", ()):
                    yield _parse(credential, event)


def _parse(credential: str, event: Unstructured) -> Request:
    about = event["objectRef"]
    began, ended = (datetime.fromisoformat(event[key]) for key in ("requestReceivedTimestamp", "stageTimestamp"))
    return Request(
        credential,
        event["verb"],
        about.get("apiGroup", ""),
        "/".join(part for part in (about["resource"], about.get("subresource")) if part),
        began,
        ended,
        event["responseStatus"]["code"],
        event["annotations"].get("authorization.k8s.io/decision") == "forbid",
    )
