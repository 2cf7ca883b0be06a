"""The OpenAPI document is valid, and matches the code that it describes."""

from openapi_spec_validator import OpenAPIV31SpecValidator

from support.backend import validate
from support.builders import storage_object
from userstorage_operator.readapi.openapi import document
from userstorage_operator.readmodel.summary import summary


def test_document_is_valid() -> None:
    OpenAPIV31SpecValidator(document("1.0")).validate()


def test_every_field_of_a_summary_is_described() -> None:
    status = {
        "observedGeneration": 3,
        "phase": "Ready",
        "podName": "p",
        "podUID": "u",
        "serviceName": "s",
        "url": "https://example.org/",
        "nodeName": "n",
        "image": "i",
        "readyTime": "2026-01-31T12:00:00Z",
        "restartCount": 0,
        "storage": {"claimName": "c"},
        "lastError": {"attempts": 1},
        "conditions": [{"type": "Ready", "status": "True", "reason": "PodReady", "message": "m"}],
    }
    raw = storage_object(className="standard", meta={"deletionTimestamp": "2026-01-31T12:00:00Z"}) | {"status": status}
    full = summary(raw)
    described = document("1.0")["components"]["schemas"]["UserStorage"]["properties"]
    assert set(full) == set(described)
    validate("UserStorage", full)
    validate("UserStorage", summary(storage_object()))
