"""Values of `podMetadata`, a section of both UserStorage and UserStorageClass, that must be refused or admitted."""

from support.manifests import Accepted, Refused

REFUSED = [
    Refused("pod label value", {"labels": {"team": "a b"}}, "podMetadata.labels values must be valid"),
    Refused("pod label key", {"labels": {"/x": "a"}}, "podMetadata.labels keys must be valid"),
    Refused("pod label too long", {"labels": {"a": "b" * 64}}, "spec.podMetadata.labels.a: Too long"),
    Refused("pod annotation key", {"annotations": {"a/b/c": "x"}}, "podMetadata.annotations keys must be"),
    Refused("a label of the operator", {"labels": {"userstorage.dev/uid": "x"}}, "podMetadata.labels keys must not start with"),
    Refused(
        "an annotation of the operator",
        {"annotations": {"userstorage.dev/pod-hash": "x"}},
        "podMetadata.annotations keys must not start with",
    ),
    Refused(
        "60 an object of 1.4 MiB",
        {"annotations": {f"a{n}": "x" * 4096 for n in range(350)}},
        "spec.podMetadata.annotations: Too many",
    ),
    Refused("60 a huge annotation", {"annotations": {"a": "x" * 4097}}, "spec.podMetadata.annotations.a: Too long"),
    Refused("annotations of 4097 bytes", {"annotations": {"a": "x" * 4096}}, "must have at most 4096 bytes together"),
    Refused("annotations of 4098 bytes, 2050 characters", {"annotations": {"ab": "ü" * 2048}}, "at most 4096 bytes together"),
    Refused(
        "labels and annotations too large together",
        {"labels": {f"key-{n}": "x" * 63 for n in range(32)}, "annotations": {f"key-{n}": "x" * 63 for n in range(32)}},
        "podMetadata.labels and podMetadata.annotations must have at most 4096 bytes together",
    ),
]

ACCEPTED = [
    Accepted("pod metadata", {"labels": {"example.org/team": "a"}, "annotations": {"example.org/note": "any text, ü"}}),
    Accepted("pod metadata of 4096 bytes", {"labels": {"a": "b"}, "annotations": {"ab": "ü" * 2046}}),
    Accepted("pod metadata empty", {}),
]
