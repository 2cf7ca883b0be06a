"""What `explain` says about a UserStorage or its class. Pure."""

import shlex
from collections.abc import Iterator

from kubectl_userstorage.api import (
    ANNOTATION_DEFAULT_CLASS,
    DEFAULT_HEADER,
    LABEL_GATEWAY,
    SHARE_DIRECTORIES,
    Raw,
    child_name,
    claim_of,
    conditions,
    is_as_asked,
    is_true,
    is_up_to_date,
    slug,
    user_id_of,
)
from kubectl_userstorage.nextsteps import CLASS_NEXT_STEPS, NEXT_STEPS, OWN_CLAIM_PENDING, Step

BUILT_IN: Raw = {"metadata": {"name": ""}, "spec": {"browser": {"flavor": "Copyparty"}}}
"""The class of UserStorages without a className if no class is marked as default."""

_ORDER = ("Paused", "Stalled", "StorageReady", "Ready", "NetworkReady", "PodUpToDate", "Reconciling")
"""The condition that is most likely the cause comes first."""
_FOLLOWING = (
    OWN_CLAIM_PENDING,
    NEXT_STEPS["NetworkReady"]["Pending"],
    *(NEXT_STEPS["PodUpToDate"][reason] for reason in ("Recreating", "Stalled")),
)
"""The steps for what does not exist yet; not shown if another condition has the cause."""


def explain(raw: Raw, class_name: str, operator_namespace: str = "") -> Iterator[str]:
    """Yield the lines about a UserStorage: one if all is well, else what is wrong, who must act and the next command.

    Empty names are not known: commands have a placeholder.
    """
    meta, status = raw["metadata"], raw.get("status") or {}
    title = f"{meta['namespace']}/{meta['name']}: {status.get('phase', 'Pending')}"
    if is_true(raw, "Paused"):
        title += " at the moment it was paused"
    found = list(problems(raw))
    if is_as_asked(raw) and not found:
        yield title + (f" at {status['url']}" if status.get("url") else "") + _volume(raw)
        return
    yield title
    if not is_up_to_date(raw):
        yield "  The operator has not processed the current spec yet."
    values = variables(raw, class_name, operator_namespace)
    for condition, step in found:
        yield from _problem(condition, step, values)
    if error := status.get("lastError"):
        retry = f"; next try {error['nextRetryTime']}" if "nextRetryTime" in error else ""
        attempts = "1 attempt" if error["attempts"] == 1 else f"{error['attempts']} attempts"
        is_shown = any(condition.get("message") == error["message"] for condition, _ in found)
        yield f"  Last error: {error['reason']}{'' if is_shown else ': ' + error['message']} ({attempts}{retry})"


def explain_class(raw: Raw) -> Iterator[str]:
    """Yield the lines about a class."""
    name = raw["metadata"]["name"]
    found = [
        (condition, step)
        for condition in conditions(raw).values()
        if (step := CLASS_NEXT_STEPS.get(condition["type"], {}).get(condition["reason"])) is not None
    ]
    state = conditions(raw).get("Ready", {})
    yield f"userstorageclass {name}: {state.get('reason', 'not processed by the operator yet')}"
    for condition, step in found:
        yield from _problem(condition, step, {"class_name": shlex.quote(name)})


def problems(raw: Raw) -> Iterator[tuple[Raw, Step | None]]:
    """Yield each condition of a UserStorage that is not as it should be, with its next step; the likely cause first.

    A reason that this version does not know has no step. A condition that only repeats or follows from another one is left out.
    """
    found = list(_problems(raw))
    causes = [(condition, step) for condition, step in found if step not in _FOLLOWING]
    yield from causes or found


def _problems(raw: Raw) -> Iterator[tuple[Raw, Step | None]]:
    found = conditions(raw)
    if found.get("Paused", {}).get("status") == "True":
        yield found["Paused"], NEXT_STEPS["Paused"]["Paused"]  # every other condition is as it was at that moment
        return
    suspended = found.get("Suspended", {}).get("status") == "True"
    claim_name = ((raw.get("spec") or {}).get("storage") or {}).get("claimName")
    shown: set[str] = set()
    for name in sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        condition = found[name]
        reason = condition["reason"]
        known = NEXT_STEPS.get(name)
        step = known.get(reason) if known else None
        if (name, reason) == ("StorageReady", "ClaimNotFound") and not claim_name:
            step = OWN_CLAIM_PENDING
        if name == "Suspended" or (suspended and reason == "Suspended"):
            continue
        if step is None and (known is None or reason in known):
            continue  # as it should be
        if reason in shown or (name == "Reconciling" and shown):
            continue
        shown.add(reason)
        if not (name == "Ready" and reason in ("StorageNotReady", "NetworkNotReady") and len(shown) > 1):
            yield condition, step


def variables(raw: Raw, class_name: str, operator_namespace: str) -> dict[str, str]:
    """Return what the commands of next steps name, quoted for a shell."""
    user, storage = user_id_of(raw), (raw.get("status") or {}).get("storage") or {}
    wanted = (raw.get("spec") or {}).get("storage") or {}
    values = {
        "name": raw["metadata"]["name"],
        "namespace": raw["metadata"]["namespace"],
        "user": user,
        "slug": slug(user),
        "pod": child_name(user),
        "claim": claim_of(raw),
        "lost_volume": (storage.get("lostClaim") or {}).get("volumeName", "VOLUME"),
        "class_name": class_name or "CLASS",
        "operator_namespace": operator_namespace or "OPERATOR_NAMESPACE",
        "shareable": SHARE_DIRECTORIES if wanted.get("subPath") else "true",
    }
    return {key: shlex.quote(value) for key, value in values.items()}


def class_in_effect(raw: Raw, classes: list[Raw]) -> Raw | None:
    """Return the class of a UserStorage: the named one, else the oldest that is marked as default, else the built-in one.

    None if the named class does not exist.
    """
    if name := (raw.get("spec") or {}).get("className"):
        return next((cls for cls in classes if cls["metadata"]["name"] == name), None)
    marked = [cls for cls in classes if (cls["metadata"].get("annotations") or {}).get(ANNOTATION_DEFAULT_CLASS) == "true"]
    oldest = min(marked, key=lambda cls: (cls["metadata"]["creationTimestamp"], cls["metadata"]["uid"]), default=None)
    return oldest or BUILT_IN


_CHECKS_OF_PODS = {
    "FileBrowser": "yes: File Browser serves no other name",
    "Copyparty": "yes: Copyparty serves no other name",
    "Quantum": "in part: a name that resolves to the owner's as a path gets in",
    "Custom": "up to its image",
}


def guards(raw: Raw, cls: Raw | None) -> Iterator[str]:
    """Yield the lines about what lets only the owner in, as far as the cluster shows it; `cls` None: the class cannot be read."""
    yield f"  guards, for the owner {user_id_of(raw)!r}:"
    yield from (
        _class_guards(cls)
        if cls is not None
        else (
            "      does the pod compare the name? unknown: no right to read classes",
            "      connections to the pod: unknown: no right to read classes",
        )
    )
    yield "      does the gateway ask the gate? not visible in the cluster: open the address as another user, who must get 403"


def _class_guards(cls: Raw) -> Iterator[str]:
    spec = cls.get("spec") or {}
    auth, network = spec.get("auth") or {}, spec.get("network") or {}
    by_header = auth.get("mode", "ProxyHeader") == "ProxyHeader"
    flavor = (spec.get("browser") or {}).get("flavor", "")
    checks = _CHECKS_OF_PODS.get(flavor) if by_header else None
    compared = f", in the header {auth.get('headerName', DEFAULT_HEADER)}" if checks is not None else ""
    yield f"      does the pod compare the name{compared}? {checks or 'no: every client that connects has the files'}"
    peers = "network.allowedFrom of the class" if network.get("allowedFrom") else f"namespaces labelled {LABEL_GATEWAY}=true"
    managed = network.get("policy", "Managed") == "Managed"
    policy = f"only from {peers}" if managed else "not restricted by the operator (network.policy: None)"
    yield f"      connections to the pod: {policy}"


def _problem(condition: Raw, step: Step | None, values: dict[str, str]) -> Iterator[str]:
    yield f"  {condition['type']}={condition['status']} {condition['reason']} since {condition['lastTransitionTime']}"
    if message := condition.get("message"):
        yield f"      {message}"
    if step is None:
        yield "      who: unknown to this version of the plugin; see the API reference for the reason"
        return
    yield f"      who: {step.actor}"
    yield f"      {step.advice}"
    yield f"      $ {step.command.format(**values)}"


def _volume(raw: Raw) -> str:
    storage = (raw.get("status") or {}).get("storage") or {}
    if storage.get("usedPercent") is None:
        return ""
    return f", volume {storage['usedPercent']} % full, {storage['used']} used"
