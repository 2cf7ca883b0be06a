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
        f"exec: dufs -a admin:{PLANTED}@/:rw --port 80",
        f"unknown option: --rc-pass {PLANTED}",
        f"unknown option: --pass={PLANTED}",
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
        {"args": ["-a", f"admin:{PLANTED}@/:rw"]},
        {"args": [f"-aadmin:{PLANTED}"]},
        {"args": [f"-a=admin:{PLANTED}"]},
        {"args": ["--pass", PLANTED]},
        {"args": ["--pass", f"--{PLANTED}"]},
        {"args": [f"--pass={PLANTED}"]},
        {"args": [f"--rc-pass=x\n{PLANTED}"]},
        {"args": [f"--any={PLANTED}", f"-v=/srv:{PLANTED}", PLANTED]},
        {"command": ["sh", "-c", f"dufs -a admin:{PLANTED}@/ /data"]},
        {"readinessProbe": {"exec": {"command": ["curl", "-u", f"a:{PLANTED}", "localhost"]}}},
        {"livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X-Any", "value": PLANTED}]}}},
        {"metadata": {"annotations": {"kapp.k14s.io/original": json.dumps({"env": [{"name": "A", "value": PLANTED}]})}}},
        {"metadata": {"annotations": {"userstorage.dev/copy": json.dumps([{"value": PLANTED}])}}},
        {"metadata": {"annotations": {"objectset.rio.cattle.io/applied": f"H4sI{PLANTED}"}}},
        {"podMetadata": {"annotations": {"example.org/any": PLANTED}}},
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
        "metadata": {
            "name": "alice",
            "annotations": {
                "userstorage.dev/user-id": "alice@example.org",
                "volume.kubernetes.io/selected-node": "node-1",
            },
        },
        "spec": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}]},
        "status": {"url": "https://alice.example.org/", "conditions": [{"type": "Ready", "message": "exit code 1"}]},
    }
    assert clean(raw) == raw


def test_names_of_options_and_of_annotations_stay() -> None:
    assert clean({"args": ["/data", "-p=80", "--auth.method=proxy", "--allow-search", "-a", "x", "-pw"]}) == {
        "args": ["[redacted]", "-p=[redacted]", "--auth.method=[redacted]", "--allow-search", "-a", "[redacted]", "[redacted]"]
    }
    assert clean({"annotations": {"example.org/any": "x"}}) == {"annotations": {"example.org/any": "[redacted]"}}
