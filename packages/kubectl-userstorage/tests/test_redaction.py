"""What a support bundle does not contain."""

import json
from typing import Any

import pytest

from kubectl_userstorage.redaction import clean, clean_text

PLANTED = "hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{PLANTED}@cache:6379/0",
        f"Authorization: Bearer {PLANTED}",
        f"password={PLANTED}",
        f'{{"password": "{PLANTED}"}}',
        f'{{\\"token\\": \\"{PLANTED}\\"}}',
        f"api-key: '{PLANTED}'",
        f"-----BEGIN EC PRIVATE KEY-----\n{PLANTED}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{PLANTED}",
        "eyJhbGciOiJSUzI1NiJ9.hunter2hunter2.hunter2hunter2",
        "ghp_hunter2hunter2hunter2hunter2",
    ],
)
def test_text_has_no_secret(text: str) -> None:
    assert "hunter2" not in clean_text(f"before {text} after")
    assert clean_text(f"before {text} after").startswith("before ")


@pytest.mark.parametrize(
    "value",
    [
        {"env": [{"name": "ANY", "value": PLANTED}]},
        {"args": ["--password", PLANTED]},
        {"command": [f"--api-key={PLANTED}"]},
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": PLANTED}}},
        {"metadata": {"managedFields": [PLANTED]}},
        {"deeply": [{"nested": {"clientSecret": PLANTED}}]},
        {"data": {"config": f"user: x\npassword: {PLANTED}\n"}},
    ],
)
def test_object_has_no_secret(value: dict[str, Any]) -> None:
    assert PLANTED not in json.dumps(clean(value))


def test_what_is_needed_for_a_diagnosis_stays() -> None:
    raw = {
        "metadata": {"name": "alice", "annotations": {"userstorage.dev/user-id": "alice@example.org"}},
        "spec": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}]},
        "status": {"url": "https://alice.example.org/", "conditions": [{"type": "Ready", "message": "exit code 1"}]},
    }
    assert clean(raw) == raw
