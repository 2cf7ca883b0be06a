"""Rows of many UserStorages, from the API server's table or from the read API."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import httpx

from kubectl_userstorage import errors
from kubectl_userstorage.api import USER_STORAGES, Raw, age
from kubectl_userstorage.cluster import Cluster

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_PAGE = 500
"""Items of one page of the read API, its maximum."""


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
        chosen = [f"{field}={value}" for field, value in (("spec.userID", self.user), ("status.phase", self.phase)) if value]
        return {key: value for key, value in (("fieldSelector", ",".join(chosen)), ("labelSelector", self.selector)) if value}


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


async def rows_of_read_api(api: ReadApi, query: Query) -> list[Row]:
    """Return the rows from the read API, which costs the API server nothing. Raises a CommandError that names the option."""
    if query.selector:
        raise errors.CommandError("--selector: the read API has no labels; leave out --read-api")
    params = {"limit": str(_PAGE)}
    params |= {
        key: value for key, value in (("namespace", query.namespace), ("phase", query.phase), ("user", query.user)) if value
    }
    if query.not_ready:
        params["ready"] = "false"
    return [_row_of_summary(item) async for item in _summaries(api, params)]


async def _summaries(api: ReadApi, params: dict[str, str]) -> AsyncIterator[Raw]:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=30) as client:
        while True:
            try:
                response = await client.get("/v1/userstorages", params=params)
                body = response.json()
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise errors.Unreachable(f"--read-api {api.url}: {error or type(error).__name__}") from error
            if response.is_error:
                kind = errors.Forbidden if response.status_code in (401, 403) else errors.CommandError
                raise kind(f"--read-api {api.url}: {body.get('detail', response.reason_phrase)}")
            for item in body["items"]:
                yield item
            if not (following := body["metadata"].get("continue")):
                return
            params = {**params, "continue": following}


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
