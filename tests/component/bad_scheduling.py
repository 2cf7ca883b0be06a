"""Values of `scheduling`, a section of both UserStorage and UserStorageClass, that must be refused or admitted.

A toleration without a key tolerates every taint: a class may have it, a UserStorage may not.
"""

from typing import Any

from support.manifests import Accepted, Refused


def toleration(**fields: object) -> dict[str, Any]:
    return {"tolerations": [fields]}


REFUSED = [
    Refused("node label value", {"nodeSelector": {"zone": "a b"}}, "scheduling.nodeSelector values must be valid"),
    Refused("node label key", {"nodeSelector": {"a b": "x"}}, "scheduling.nodeSelector keys must be valid"),
    Refused("30 node labels", {"nodeSelector": {f"k{n}": "x" for n in range(17)}}, "spec.scheduling.nodeSelector: Too many"),
    Refused(
        "30 a thousand tolerations", {"tolerations": [{"operator": "Exists"}] * 1000}, "spec.scheduling.tolerations: Too many"
    ),
    Refused("toleration operator", toleration(key="a", operator="In"), "tolerations[0].operator: Unsupported value"),
    Refused("toleration effect", toleration(key="a", effect="NoEntry"), "tolerations[0].effect: Unsupported value"),
    Refused("toleration key", toleration(key="a b"), "tolerations[].key must be a valid label key"),
    Refused("toleration value", toleration(key="a", value="a b"), "tolerations[].value must be a valid label value"),
    Refused(
        "toleration value that is not compared",
        toleration(key="a", operator="Exists", value="b"),
        "tolerations[].value must be empty when operator is Exists",
    ),
    Refused(
        "toleration seconds without NoExecute",
        toleration(key="a", effect="NoSchedule", tolerationSeconds=1),
        "tolerations[].effect must be NoExecute",
    ),
    Refused(
        "toleration seconds negative",
        toleration(key="a", effect="NoExecute", tolerationSeconds=-1),
        "tolerations[0].tolerationSeconds: Invalid value",
    ),
]

ACCEPTED = [
    Accepted("scheduling empty", {}),
    Accepted("node labels", {"nodeSelector": {"topology.kubernetes.io/zone": "a", "ssd": ""}}),
    Accepted("toleration of a value", toleration(key="example.org/team", value="a", effect="NoSchedule")),
    Accepted("toleration for a time", toleration(key="a", operator="Exists", effect="NoExecute", tolerationSeconds=300)),
]

REFUSED_FOR_USERS = [
    Refused("toleration of nothing", toleration(), "tolerations[].key is required"),
    Refused("toleration of everything", toleration(operator="Exists"), "tolerations[].key is required"),
    Refused("toleration of an empty key", toleration(key="", operator="Exists"), "tolerations[].key is required"),
]

REFUSED_FOR_CLASSES = [
    Refused("toleration of nothing", toleration(), "tolerations[].operator must be Exists"),
    Refused("toleration of no key", toleration(operator="Equal"), "tolerations[].operator must be Exists"),
    Refused("toleration of an empty key", toleration(key=""), "tolerations[].operator must be Exists"),
    Refused(
        "node label allowed",
        {"allowed": {"nodeSelector": ["a b"]}},
        "scheduling.allowed.nodeSelector must hold valid label keys",
    ),
    Refused(
        "prefix of node labels", {"allowed": {"nodeSelector": ["example.org/"]}}, "nodeSelector must hold valid label keys"
    ),
    Refused(
        "control plane allowed",
        {"allowed": {"nodeSelector": ["node-role.kubernetes.io/control-plane"]}},
        "scheduling.allowed.nodeSelector must not hold keys of control-plane nodes",
    ),
    Refused(
        "every taint allowed", {"allowed": {"tolerations": [""]}}, "scheduling.allowed.tolerations must hold valid label keys"
    ),
    Refused(
        "taint of the control plane allowed",
        {"allowed": {"tolerations": ["node-role.kubernetes.io/master"]}},
        "scheduling.allowed.tolerations must not hold keys of control-plane nodes",
    ),
    Refused("30 taints allowed", {"allowed": {"tolerations": [f"k{n}" for n in range(33)]}}, "allowed.tolerations: Too many"),
    Refused("node label allowed twice", {"allowed": {"nodeSelector": ["a", "a"]}}, "allowed.nodeSelector[1]: Duplicate value"),
]

ACCEPTED_FOR_CLASSES = [
    Accepted("toleration of everything", toleration(operator="Exists")),
    Accepted("toleration of the control plane", toleration(key="node-role.kubernetes.io/control-plane", operator="Exists")),
    Accepted(
        "keys allowed", {"allowed": {"nodeSelector": ["kubernetes.io/hostname", "pool"], "tolerations": ["example.org/gpu"]}}
    ),
]
