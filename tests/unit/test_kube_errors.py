"""Reasons of the API server's refusals."""

import json

import pytest

from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.kube.errors import error_from


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            (
                'persistentvolumeclaims "user-storage-alice" is forbidden: only dynamically provisioned pvc can be resized and '
                "the storageclass that provisions the pvc must support resize"
            ),
            "ExpansionNotSupported",
        ),
        (
            (
                'persistentvolumeclaims "user-storage-alice" is forbidden: exceeded quota: storage, requested: '
                "requests.storage=1Gi, used: requests.storage=1Gi, limited: requests.storage=1Gi"
            ),
            "QuotaExceeded",
        ),
        ('persistentvolumeclaims "user-storage-alice" is forbidden: User "x" cannot patch resource', "Forbidden"),
        ('admission webhook "sizes.example.org" denied the request: too large', "Forbidden"),
    ],
)
def test_reason_of_forbidden_error_follows_from_its_message(message: str, reason: str) -> None:
    error = error_from(403, json.dumps({"message": message, "reason": "Forbidden"}).encode(), {})
    assert isinstance(error, Refused)
    assert (error.reason, error.message) == (reason, message)


def test_failing_webhook_is_not_an_unavailable_server() -> None:
    message = (
        'Internal error occurred: failed calling webhook "sidecar.example.org": failed to call webhook: no endpoints available'
    )
    error = error_from(500, json.dumps({"message": message, "reason": "InternalError"}).encode(), {})
    assert isinstance(error, Unavailable)  # tried again with backoff
    assert (error.reason, error.message) == ("WebhookFailed", message)
    assert error_from(500, b'{"message": "Internal error occurred: etcd"}', {}).reason == "APIUnavailable"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "sizes.example.org" denied the request: too large',
        'admission webhook "sizes.example.org" denied the request without explanation',
        "pods \"user-storage-alice\" is forbidden: ValidatingAdmissionPolicy 'sizes' with binding 'all' denied request: too large",
    ],
)
def test_denied_request_is_refused_whatever_its_status(status: int, message: str) -> None:
    error = error_from(status, json.dumps({"message": message}).encode(), {})
    assert isinstance(error, Refused)
    assert (error.reason, error.message) == ("Forbidden", message)


@pytest.mark.parametrize(
    "message",
    [
        'Internal error occurred: admission plugin "MutatingAdmissionWebhook" failed to complete mutation in 13s',
        "Internal error occurred: jsonpatch add operation does not apply: doc is missing path: /metadata/labels/team",
    ],
)
def test_webhook_that_fails_otherwise_is_named_too(message: str) -> None:
    assert error_from(500, json.dumps({"message": message}).encode(), {}).reason == "WebhookFailed"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("86400", 60.0), ("9" * 400, 60.0), ("soon", None), ("", None), ("\u00b2", None), ("\u0663", None)],
)
def test_retry_after_is_bounded_and_read_in_ascii_digits(header: str, seconds: float | None) -> None:
    assert error_from(503, b"", {"Retry-After": header}).retry_after == seconds
