"""Values of `scheduling`, a section of both UserStorage and UserStorageClass, that must be refused or admitted."""

from typing import Any

from support.manifests import Accepted, Refused


def _toleration(**fields: object) -> dict[str, Any]:
    return {"tolerations": [fields]}


REFUSED = [
    Refused("node label value", {"nodeSelector": {"zone": "a b"}}, "scheduling.nodeSelector values must be valid"),
    Refused("node label key", {"nodeSelector": {"a b": "x"}}, "scheduling.nodeSelector keys must be valid"),
    Refused("30 node labels", {"nodeSelector": {f"k{n}": "x" for n in range(17)}}, "spec.scheduling.nodeSelector: Too many"),
    Refused(
        "30 a thousand tolerations", {"tolerations": [{"operator": "Exists"}] * 1000}, "spec.scheduling.tolerations: Too many"
    ),
    Refused("toleration operator", _toleration(key="a", operator="In"), "tolerations[0].operator: Unsupported value"),
    Refused("toleration effect", _toleration(key="a", effect="NoEntry"), "tolerations[0].effect: Unsupported value"),
    Refused("toleration of nothing", _toleration(), "tolerations[].operator must be Exists"),
    Refused("toleration of no key", _toleration(operator="Equal"), "tolerations[].operator must be Exists"),
    Refused("toleration of an empty key", _toleration(key=""), "tolerations[].operator must be Exists"),
    Refused("toleration key", _toleration(key="a b"), "tolerations[].key must be a valid label key"),
    Refused("toleration value", _toleration(key="a", value="a b"), "tolerations[].value must be a valid label value"),
    Refused(
        "toleration value that is not compared",
        _toleration(key="a", operator="Exists", value="b"),
        "tolerations[].value must be empty when operator is Exists",
    ),
    Refused(
        "toleration seconds without NoExecute",
        _toleration(key="a", effect="NoSchedule", tolerationSeconds=1),
        "tolerations[].effect must be NoExecute",
    ),
    Refused(
        "toleration seconds negative",
        _toleration(key="a", effect="NoExecute", tolerationSeconds=-1),
        "tolerations[0].tolerationSeconds: Invalid value",
    ),
]

ACCEPTED = [
    Accepted("scheduling empty", {}),
    Accepted("node labels", {"nodeSelector": {"topology.kubernetes.io/zone": "a", "ssd": ""}}),
    Accepted("toleration of everything", _toleration(operator="Exists")),
    Accepted("toleration of a value", _toleration(key="example.org/team", value="a", effect="NoSchedule")),
    Accepted("toleration for a time", _toleration(key="a", operator="Exists", effect="NoExecute", tolerationSeconds=300)),
]
