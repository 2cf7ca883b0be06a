"""Rows of many UserStorages, from the API server's table or from the read API."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlencode

from kubectl_userstorage import errors
from kubectl_userstorage.api import USER_STORAGES, Raw, age
from kubectl_userstorage.cluster import Cluster

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_PAGE = 500
"""Items of one page of the read API, its maximum."""
_TIMEOUT = 30.0
"""Seconds for one page of the read API."""


@dataclass(frozen=True, slots=True)
class Row:
    """One UserStorage in a table. A field is empty if the cluster has no value for it."""

    namespace: str
    name: str
    user: str
    phase: str
    ready: str
    reason: str
    capacity: str
    age: str
    url: str
    node: str
    claim: str
    used: str
    class_name: str
    paused: str


TITLES = {"class_name": "CLASS", "used": "USED%"} | {
    field.name: field.name.upper() for field in fields(Row) if field.name not in ("class_name", "used")
}
NARROW = ("name", "user", "phase", "ready", "reason", "capacity", "age")
WIDE = (*NARROW, "url", "node", "claim", "used", "class_name", "paused")


@dataclass(frozen=True)
class Query:
    """Which UserStorages. `namespace` None: of all namespaces."""

    namespace: str | None
    phase: str | None = None
    user: str | None = None
    selector: str | None = None
    not_ready: bool = False

    def params(self) -> dict[str, str]:
        """Return the selectors of a list of the API server."""
        wanted = (("spec.userID", self.user), ("status.phase", self.phase))
        chosen = [f"{field}={escaped(value)}" for field, value in wanted if value]
        return {key: value for key, value in (("fieldSelector", ",".join(chosen)), ("labelSelector", self.selector)) if value}


def escaped(value: str) -> str:
    """Return a value as a field selector has it: a backslash stands before each backslash, comma and equals sign."""
    return re.sub(r"([\\,=])", r"\\\1", value)


@dataclass(frozen=True)
class ReadApi:
    """The read API of the operator: its address, and a token that it accepts."""

    url: str
    token: str


async def rows(cluster: Cluster, query: Query) -> list[Row]:
    """Return the rows from the API server, as it renders them: a tenth of the bytes of the objects."""
    found: list[Row] = []
    # In one namespace, the cells are enough. In all of them, only the metadata has the namespace.
    params = query.params() | {"includeObject": "None" if query.namespace else "Metadata"}
    async for page in cluster.pages(USER_STORAGES, query.namespace, params, _TABLE):
        columns = [column["name"].lower() for column in page["columnDefinitions"]]
        found += [_row_of_table(dict(zip(columns, row["cells"], strict=True)), row, query.namespace) for row in page["rows"]]
    return [row for row in found if not (query.not_ready and row.ready == "True")]


def rows_of_read_api(api: ReadApi, query: Query) -> list[Row]:
    """Return the rows from the read API, which costs the API server nothing. Raises a CommandError that names the option."""
    params = {"limit": str(_PAGE)}
    params |= {
        key: value for key, value in (("namespace", query.namespace), ("phase", query.phase), ("user", query.user)) if value
    }
    if query.not_ready:
        params["ready"] = "false"
    found: list[Row] = []
    while True:
        page = _page(api, params)
        found += [_row_of_summary(item) for item in page["items"]]
        if not (following := page["metadata"].get("continue")):
            return found
        params["continue"] = following


def _page(api: ReadApi, params: dict[str, str]) -> Raw:
    url = f"{api.url}/v1/userstorages?{urlencode(params)}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api.token}"})  # noqa: S310  # http(s): `read_api_of`
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310  # as above
            page: Raw = json.load(response)
            return page
    except urllib.error.HTTPError as error:
        kind = errors.Unavailable if error.code == 429 or error.code >= 500 else errors.CommandError
        raise kind(f"--read-api {api.url}: {_detail(error)}") from error
    except (OSError, ValueError) as error:
        raise errors.Unreachable(f"--read-api {api.url}: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    """Return the reason of a refusal (RFC 9457)."""
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _row_of_table(cells: Mapping[str, Any], row: Raw, namespace: str | None) -> Row:
    def text(column: str) -> str:
        value = cells.get(column)
        return "" if value is None else str(value)

    return Row(
        namespace=namespace or row["object"]["metadata"]["namespace"],
        name=text("name"),
        user=text("user"),
        phase=text("phase"),
        ready=text("ready"),
        reason=text("reason"),
        capacity=text("capacity"),
        age=text("age"),
        url=text("url"),
        node=text("node"),
        claim=text("claim"),
        used=text("used%"),
        class_name=text("class"),
        paused=text("paused"),
    )


def _row_of_summary(item: Raw) -> Row:
    storage = item.get("storage") or {}
    return Row(
        namespace=item["namespace"],
        name=item["name"],
        user=item["userID"],
        phase=item["phase"],
        ready=str(item["ready"]),
        reason=item.get("reason", ""),
        capacity=storage.get("capacity", ""),
        age=age(item["creationTimestamp"]),
        url=item.get("url", ""),
        node=item.get("nodeName", ""),
        claim=storage.get("claimName", ""),
        used=str(storage.get("usedPercent", "")),
        class_name=item.get("className", ""),
        paused="",
    )
