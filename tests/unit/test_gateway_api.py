import pytest

from support.builders import class_object
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.gateway_api import gateway_api_missing


@pytest.mark.parametrize(
    ("expose", "served", "reason"),
    [("Gateway", False, "GatewayAPIMissing"), ("Gateway", True, None), ("Ingress", False, None), ("ClusterIP", False, None)],
)
def test_only_a_class_with_a_gateway_needs_the_gateway_api(expose: str, served: bool, reason: str | None) -> None:
    cls = UserStorageClass.parse(
        class_object(network={"expose": expose, "hostTemplate": "${slug}.example.org", "gateway": {"name": "g"}})
    )
    finding = gateway_api_missing(cls, served=served)
    assert (finding.reason if finding is not None else None) == reason
