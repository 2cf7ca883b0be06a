"""Logins of the operator's service account, and the requests of each login in the API server's audit log."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured

SYSTEM = "userstorage-system"
NAME = "userstorage-operator"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{NAME}"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_OWNER_REFERENCES = str(Path(__file__).parents[2] / "deploy/owner-references")
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass(frozen=True, slots=True)
class Login:
    """A kubeconfig with its own token, whose credential id identifies its requests in the audit log."""

    kubeconfig: Path
    credential: str


def log_in(api: Kubectl, directory: Path, account: str = NAME, namespace: str = SYSTEM) -> Login:
    """Create a token of a service account, by default the operator's, and a kubeconfig with it in `directory`."""
    token = api.token(account, namespace, hours=4)
    config = api.config()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))
    return Login(path, f"JTI={claims['jti']}")


@contextmanager
def changing_owners(api: Kubectl) -> Iterator[None]:
    """Grant the right that OwnerReferencesPermissionEnforcement, which the test API server runs, requires for owners of claims: the
    end of a deletion gives a claim of reclaimPolicy Delete an owner.
    """
    api.run("apply", "-k", _OWNER_REFERENCES)
    yield
    api.run("delete", "-k", _OWNER_REFERENCES, "--ignore-not-found")


@dataclass(frozen=True, slots=True)
class Request:
    """A completed request for a resource."""

    credential: str
    verb: str
    group: str
    resource: str
    """The resource, followed by a slash and the subresource if there is one."""
    name: str
    """Of a creation, the name in the body."""
    received: datetime
    answered: datetime
    code: int
    forbidden: bool
    """Whether RBAC denied the request; admission and a terminating namespace also respond with 403."""

    @property
    def is_write(self) -> bool:
        """Whether the verb is a write, even if the request was refused."""
        return self.verb in WRITES


def audit_log(api: Kubectl) -> Path:
    """Return the audit log of a local cluster.

    It has every write, and all requests of the service accounts in the operator's namespace.
    """
    return api.kubeconfig.parent / "logs/audit.jsonl"


def requests(api: Kubectl, *credentials: str) -> Iterator[Request]:
    """Yield the requests made with one of the credentials, in the order of their responses."""
    with audit_log(api).open() as log:
        for line in log:
            # The log of a run has tens of megabytes, and tests read it again and again.
            if any(credential in line for credential in credentials) and line.endswith("\n"):
                event = json.loads(line)
                [credential] = event["user"]["extra"][_CREDENTIAL]
                if credential in credentials and "resource" in event.get("objectRef", ()):
                    yield _parse(credential, event)


def _parse(credential: str, event: Unstructured) -> Request:
    reference = event["objectRef"]
    received, answered = (datetime.fromisoformat(event[key]) for key in ("requestReceivedTimestamp", "stageTimestamp"))
    return Request(
        credential,
        event["verb"],
        reference.get("apiGroup", ""),
        "/".join(part for part in (reference["resource"], reference.get("subresource")) if part),
        reference.get("name", ""),
        received,
        answered,
        event["responseStatus"]["code"],
        event["annotations"].get("authorization.k8s.io/decision") == "forbid",
    )
