"""Admission policies of a platform that change the objects of one namespace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured


@asynccontextmanager
async def mutating_policy(
    api: Kubectl, namespace: str, rules: list[Unstructured], patches: str, **spec: Any
) -> AsyncIterator[None]:
    """Apply the JSON patches that the CEL expression `patches` returns to the objects of the namespace that match `rules`.

    `spec` has further fields of the MutatingAdmissionPolicy. The API server needs a moment before the policy is in effect.
    """
    name = f"mutate-{namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": rules,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patches}}],
            **spec,
        },
    }
    binding = policy | {"kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}}
    await asyncio.to_thread(api.apply, policy, binding)
    try:
        yield
    finally:
        for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
            await asyncio.to_thread(api.run, "delete", kind, name, "--ignore-not-found")
