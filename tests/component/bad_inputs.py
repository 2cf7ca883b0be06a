"""Specs of a UserStorage that the API server must refuse, admit or prune. A leading number is the row in `catalogue.py`.

For every rule of the CRD there is at least one spec that it refuses and one that it admits.
"""

from typing import Any

from component import bad_pod_metadata, bad_scheduling
from support import identities
from support.manifests import ABSENT, Accepted, Change, Refused

_ALICE: dict[str, Any] = {"userID": "alice"}
_SHARED = {"claimName": "team"}
_TWO_GI = {"storage": {"capacity": "2Gi"}}


def _storage(**fields: object) -> dict[str, Any]:
    return _ALICE | {"storage": fields}


def _lifecycle(**fields: object) -> dict[str, Any]:
    return _ALICE | {"lifecycle": fields}


_NO_SUCH_USER = (
    "userID must be printable ASCII characters, as an HTTP header carries them, without spaces at its ends",
    {
        "5 space around": " a ",
        "5 space in front": " a",
        "5 space at the end": "a ",
        "5 space alone": " ",
        "5 tab": "a\tb",
        "5 newline at the end": "alice\n",
        "7 NUL": "a\x00b",
        "7 DEL": "a\x7fb",
        "9 Latin-1, which some proxies send": "caf\xe9",
        "9 no-break space": "a\xa0b",
        "9 umlaut": "müller",
        "9 right-to-left mark": "a\u200fb",
        "9 emoji": "a😀b",
        "9 homoglyph (Cyrillic a)": "\u0430lice",
        "35 decomposed accent": "re\u0301my",
    },
)

REFUSED = [
    Refused("1 no spec", ABSENT, "spec: Required value"),
    Refused("2 spec null", None, "spec: Required value"),
    Refused("2 spec a list", [], "spec: Invalid value"),
    Refused("2 spec a string", "x", "spec: Invalid value"),
    Refused("3 userID missing", {}, "spec.userID: Required value"),
    Refused("4 userID empty", {"userID": ""}, "spec.userID: Invalid value"),
    Refused("8 userID of 256 characters", {"userID": "a" * 256}, "spec.userID: Too long"),
    Refused("8 userID of 10,000 characters", {"userID": "a" * 10_000}, "spec.userID: Too long"),
    Refused("12 userID a number", {"userID": 123}, "spec.userID: Invalid value"),
    *(Refused(name, {"userID": user_id}, _NO_SUCH_USER[0]) for name, user_id in _NO_SUCH_USER[1].items()),
    Refused("className empty", _ALICE | {"className": ""}, "spec.className: Invalid value"),
    Refused("className too long", _ALICE | {"className": "a" * 64}, "spec.className: Too long"),
    Refused("className with a dot", _ALICE | {"className": "a.b"}, "className must be a DNS label"),
    Refused("replicas 2", _ALICE | {"replicas": 2}, "spec.replicas: Invalid value"),
    Refused("replicas -1", _ALICE | {"replicas": -1}, "spec.replicas: Invalid value"),
    Refused("replicas a word", _ALICE | {"replicas": "one"}, "spec.replicas: Invalid value"),
    Refused("16 size empty", _storage(size=""), "storage.size must be a quantity"),
    Refused("16 size abc", _storage(size="abc"), "storage.size must be a quantity"),
    Refused("16 size with a space", _storage(size="5 GB"), "storage.size must be a quantity"),
    Refused("16 size 1e400", _storage(size="1e400"), "spec.storage.size"),
    Refused("17 size 0", _storage(size="0"), "storage.size must be at least 1Mi"),
    Refused("17 size negative", _storage(size="-1Gi"), "storage.size must be at least 1Mi"),
    Refused("18 size 1Ki", _storage(size="1Ki"), "storage.size must be at least 1Mi"),
    Refused("19 size 9Ei", _storage(size="9Ei"), "storage.size must be at least 1Mi and at most 1Pi"),
    Refused("20 size of 5 bytes, an integer", _storage(size=5), "storage.size must be at least 1Mi"),
    Refused("20 size of 5 bytes, a string", _storage(size="5"), "storage.size must be at least 1Mi"),
    Refused("20 size a float", _storage(size=1.5), "spec.storage.size: Invalid value"),
    Refused("23 size of half a byte", _storage(size="0.5"), "storage.size must be at least 1Mi"),
    Refused("size too long", _storage(size="1" * 33), "spec.storage.size: Too long"),
    Refused("27 subPath absolute", _storage(**_SHARED, subPath="/etc"), "storage.subPath must be relative"),
    Refused("28 subPath a/../../b", _storage(**_SHARED, subPath="a/../../b"), "storage.subPath must be relative"),
    Refused("28 subPath ..", _storage(**_SHARED, subPath=".."), "storage.subPath must be relative"),
    Refused("28 subPath a/..", _storage(**_SHARED, subPath="a/.."), "storage.subPath must be relative"),
    Refused("29 subPath with a variable", _storage(**_SHARED, subPath="$(HOME)"), "storage.subPath may hold"),
    Refused("29 subPath with another ${}", _storage(**_SHARED, subPath="${userID}"), "storage.subPath may hold"),
    Refused("subPath with //", _storage(**_SHARED, subPath="a//b"), "storage.subPath may hold"),
    Refused("subPath too long", _storage(**_SHARED, subPath="a" * 513), "spec.storage.subPath: Too long"),
    Refused("subPath with a trailing /", _storage(**_SHARED, subPath="a/"), "storage.subPath may hold"),
    Refused("subPath with a dot at its end", _storage(**_SHARED, subPath="home./alice"), "no element ends with a dot"),
    Refused("subPath with .", _storage(**_SHARED, subPath="a/./b"), "storage.subPath must be relative"),
    Refused("subPath with a backslash", _storage(**_SHARED, subPath="a\\..\\b"), "storage.subPath may hold"),
    Refused("subPath with a line break", _storage(**_SHARED, subPath="a\nb"), "storage.subPath may hold"),
    Refused("subPath too deep", _storage(**_SHARED, subPath="/".join("abcdefghi")), "storage.subPath may have at most 8"),
    Refused("subPath with a long name", _storage(**_SHARED, subPath="a" * 201), "storage.subPath may have at most 8"),
    Refused("subPath without claimName", _storage(subPath="a"), "storage.subPath is only allowed with storage.claimName"),
    Refused("31 claimName in another namespace", _storage(claimName="ns/x"), "storage.claimName must be the name"),
    Refused("claimName in capitals", _storage(claimName="Team"), "storage.claimName must be the name"),
    Refused("claimName empty", _storage(claimName=""), "spec.storage.claimName: Invalid value"),
    Refused(
        "reclaimPolicy Delete for a named claim",
        _storage(**_SHARED, reclaimPolicy="Delete"),
        "storage.reclaimPolicy Delete is not allowed with storage.claimName",
    ),
    Refused("acceptedClaimLoss no UID", _storage(acceptedClaimLoss="all"), "spec.storage.acceptedClaimLoss: Invalid value"),
    Refused("reclaimPolicy unknown", _storage(reclaimPolicy="Recycle"), "spec.storage.reclaimPolicy: Unsupported value"),
    Refused("readOnly a word", _storage(readOnly="yes"), "spec.storage.readOnly: Invalid value"),
    Refused("startTimeout without a unit", _lifecycle(startTimeout="5"), "spec.lifecycle.startTimeout: Invalid value"),
    Refused("startTimeout 0s", _lifecycle(startTimeout="0s"), "lifecycle.startTimeout must be at least 1s"),
    Refused("startTimeout 999ms", _lifecycle(startTimeout="999ms"), "lifecycle.startTimeout must be at least 1s"),
    Refused("startTimeout of a day and more", _lifecycle(startTimeout="25h"), "lifecycle.startTimeout must be at least"),
    Refused("startTimeout past counting", _lifecycle(startTimeout="9" * 15 + "h"), "spec.lifecycle.startTimeout"),
    Refused("largest startTimeout by its grammar", _lifecycle(startTimeout="99999h" * 4), "lifecycle.startTimeout must be"),
    Refused("startTimeout too long", _lifecycle(startTimeout="1s" * 15), "spec.lifecycle.startTimeout: Too long"),
    Refused("startTimeout of five parts", _lifecycle(startTimeout="1s" * 5), "spec.lifecycle.startTimeout: Invalid value"),
    Refused("startTimeout of six digits", _lifecycle(startTimeout="100000ms"), "spec.lifecycle.startTimeout: Invalid value"),
    Refused("startTimeout fractional", _lifecycle(startTimeout="1.5h"), "spec.lifecycle.startTimeout: Invalid value"),
    Refused("startTimeout in Arabic digits", _lifecycle(startTimeout="\u0665m"), "spec.lifecycle.startTimeout: Invalid value"),
    Refused("startTimeout in microseconds", _lifecycle(startTimeout="9000000us"), "spec.lifecycle.startTimeout: Invalid"),
    Refused("size in Arabic digits", _storage(size="\u0665Gi"), "storage.size must be a quantity"),
    Refused("size with an exponent that is cut", _storage(size="1e4294967303"), "storage.size must be a quantity"),
    Refused("deletionTimeout -1m", _lifecycle(deletionTimeout="-1m"), "spec.lifecycle.deletionTimeout: Invalid value"),
    Refused("deletionTimeout 0h", _lifecycle(deletionTimeout="0h"), "lifecycle.deletionTimeout must be at least 1s"),
    Refused(
        "grace period 0 would be a forced deletion",
        _lifecycle(terminationGracePeriodSeconds=0),
        "spec.lifecycle.terminationGracePeriodSeconds: Invalid value",
    ),
    Refused(
        "grace period of hours",
        _lifecycle(terminationGracePeriodSeconds=3601),
        "spec.lifecycle.terminationGracePeriodSeconds: Invalid value",
    ),
    Refused("updateStrategy unknown", _lifecycle(updateStrategy="Never"), "spec.lifecycle.updateStrategy: Unsupported value"),
    *(Refused(row.name, _ALICE | {"scheduling": row.spec}, row.message) for row in bad_scheduling.REFUSED),
    *(Refused(row.name, _ALICE | {"scheduling": row.spec}, row.message) for row in bad_scheduling.REFUSED_FOR_USERS),
    *(Refused(row.name, _ALICE | {"podMetadata": row.spec}, row.message) for row in bad_pod_metadata.REFUSED),
]

ACCEPTED = [
    Accepted("userID alone", _ALICE),
    Accepted("userID of one character", {"userID": "7"}),
    Accepted("userID of 255 characters", {"userID": "a" * 255}),
    *(Accepted(f"userID {user_id}", {"userID": user_id}) for user_id in identities.ALL),
    Accepted("11 userID an e-mail address", {"userID": "a.b+c@x.org"}),
    Accepted("35 userID with a capital and _", {"userID": "A_b"}),
    Accepted("className", _ALICE | {"className": "gold-1"}),
    Accepted("suspended", _ALICE | {"replicas": 0}),
    Accepted("23 size 1.5Gi", _storage(size="1.5Gi")),
    Accepted("23 size 0.5Gi", _storage(size="0.5Gi")),
    Accepted("20 size in bytes, an integer", _storage(size=10 * 1024**3)),
    Accepted("20 size in bytes, a string", _storage(size=str(10 * 1024**3))),
    Accepted("size 10e9", _storage(size="10e9")),
    Accepted("smallest size", _storage(size="1Mi")),
    Accepted("largest size", _storage(size="1Pi")),
    Accepted("claim of the namespace", _storage(claimName="team.files-1", reclaimPolicy="Retain", readOnly=True)),
    Accepted("directory of a claim as deep as allowed", _storage(**_SHARED, subPath="a/b/c/d/e/f/g/${slug}")),
    Accepted("directory of a claim", _storage(**_SHARED, subPath="users/${slug}/v1.0")),
    Accepted("directory that only looks like ..", _storage(**_SHARED, subPath="a..b/.c")),
    Accepted("acceptedClaimLoss", _storage(acceptedClaimLoss="0b5f8c3e-0000-4000-8000-000000000001")),
    Accepted("reclaimPolicy Delete for our own claim", _storage(reclaimPolicy="Delete")),
    Accepted(
        "lifecycle",
        _lifecycle(
            startTimeout="1h30m",
            deletionTimeout="1000ms",
            terminationGracePeriodSeconds=1,
            updateStrategy="WhenSuspended",
        ),
    ),
    *(Accepted(row.name, _ALICE | {"scheduling": row.spec}) for row in bad_scheduling.ACCEPTED),
    *(Accepted(row.name, _ALICE | {"podMetadata": row.spec}) for row in bad_pod_metadata.ACCEPTED),
]

CHANGES = [
    Change("13 userID changed", _ALICE, {"userID": "bob"}, "userID is immutable"),
    Change("39 userID removed", _ALICE, {}, "spec.userID: Required value"),
    Change("21 size shrunk", _storage(size="2Gi"), _storage(size="1Gi"), "spec.storage.size must not shrink below", _TWO_GI),
    Change(
        "21 size shrunk, in bytes", _storage(size="2Gi"), _storage(size=2**30), "storage.size must not shrink below", _TWO_GI
    ),
    Change("a growth taken back", _storage(size="1000Ti"), _storage(size="2Gi"), None, _TWO_GI),
    Change("a growth taken back in part", _storage(size="1000Ti"), _storage(size="3Gi"), None, _TWO_GI),
    Change("a growth taken back too far", _storage(size="1000Ti"), _storage(size="2047Mi"), "must not shrink below", _TWO_GI),
    Change("a size corrected before there is a volume", _storage(size="1000Ti"), _storage(size="2Gi")),
    Change("size below a larger volume, unchanged", _storage(size="1Gi"), _storage(size="1Gi", readOnly=True), None, _TWO_GI),
    Change("size below a larger volume, grown", _storage(size="1Gi"), _storage(size="1.5Gi"), None, _TWO_GI),
    Change("size of a named claim", _storage(**_SHARED, size="2Gi"), _storage(**_SHARED, size="1Gi"), None, _TWO_GI),
    Change("39 size removed", _storage(size="2Gi"), _storage(), "storage.size cannot be removed once set"),
    Change("39 size removed with its parent", _storage(size="2Gi"), _ALICE, "storage.size cannot be removed once set"),
    Change("claimName changed", _storage(claimName="a"), _storage(claimName="b"), "storage.claimName is immutable"),
    Change("39 claimName removed", _storage(claimName="a"), _storage(), "storage.claimName is immutable"),
    Change("39 claimName removed with its parent", _storage(claimName="a"), _ALICE, "storage.claimName is immutable"),
    Change("claimName added", _ALICE, _storage(claimName="a"), "storage.claimName is immutable"),
    Change("size grown", _storage(size="1Gi"), _storage(size="1.5Gi")),
    Change("size in another unit", _storage(size="1Gi"), _storage(size="1024Mi")),
    Change("size added", _ALICE, _storage(size="1Gi")),
    Change("reclaimPolicy changed", _ALICE, _storage(reclaimPolicy="Delete")),
    Change("another directory", _storage(**_SHARED, subPath="a"), _storage(**_SHARED, subPath="b")),
    Change("the rest of the spec", _ALICE, _ALICE | {"className": "gold", "replicas": 0}),
]

PRUNED: dict[str, dict[str, Any]] = {
    "26 mountPath": {"storage": {"mountPath": "/etc"}},
    "29 subPathExpr": {"storage": {"subPathExpr": "$(HOME)"}},
    "38 storageClassName": {"storage": {"storageClassName": "fast"}},
    "41 port": {"port": 0},
    "42 host": {"network": {"host": "*"}},
    "43 ingress annotations": {"network": {"annotations": {"nginx.ingress.kubernetes.io/configuration-snippet": "x"}}},
    "44 misspelt field": {"storag": "5Gi"},
    "46 image": {"image": "evil"},
    "46 imagePullSecrets": {"imagePullSecrets": [{"name": "x"}]},
    "47 serviceAccountName": {"serviceAccountName": "default"},
    "47 hostNetwork": {"hostNetwork": True},
    "47 hostPath": {"storage": {"hostPath": {"path": "/"}}},
    "47 privileged": {"securityContext": {"privileged": True}},
    "47 volumes": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
    "47 command": {"command": ["sh"]},
    "47 env": {"env": [{"name": "LD_PRELOAD", "value": "x"}]},
    "47 podTemplate": {"podTemplate": {"spec": {}}},
    "47 nodeName": {"scheduling": {"nodeName": "control-plane"}},
    "namespace": {"namespace": "kube-system"},
}
"""Unknown fields: they must be pruned, or refused if the client asks for strict validation, as kubectl does."""
