"""The read API described as OpenAPI 3.1: served at /v1/openapi.json, and what the tests hold every answer against."""

from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readapi.parameters import LIMIT_DEFAULT, LIMIT_MAX

_TEXT: Unstructured = {"type": "string"}
_TIME: Unstructured = {"type": "string", "format": "date-time"}
_COUNT: Unstructured = {"type": "integer", "minimum": 0}
_PHASE: Unstructured = {"type": "string", "enum": [str(phase) for phase in Phase]}

_VIEW: Unstructured = {
    "type": "object",
    "description": "A summary of spec and status; an absent field has no value. See the API reference for each.",
    "required": [
        "namespace",
        "name",
        "uid",
        "resourceVersion",
        "generation",
        "observedGeneration",
        "creationTimestamp",
        "userID",
        "replicas",
        "phase",
        "ready",
        "reason",
        "message",
    ],
    "additionalProperties": False,
    "properties": {
        "namespace": _TEXT,
        "name": _TEXT,
        "uid": _TEXT,
        "resourceVersion": _TEXT,
        "generation": _COUNT,
        "observedGeneration": {**_COUNT, "description": "The generation that phase, ready and what follows are about."},
        "creationTimestamp": _TIME,
        "deletionTimestamp": {**_TIME, "description": "Set once the deletion has begun."},
        "userID": _TEXT,
        "className": _TEXT,
        "replicas": {"type": "integer", "enum": [0, 1], "description": "0 is suspended."},
        "phase": _PHASE,
        "ready": {"type": "boolean", "description": "Whether the condition Ready is True."},
        "reason": {**_TEXT, "description": "Reason of the condition Ready."},
        "message": {**_TEXT, "description": "Message of the condition Ready."},
        "podName": _TEXT,
        "podUID": _TEXT,
        "serviceName": _TEXT,
        "url": _TEXT,
        "nodeName": _TEXT,
        "image": _TEXT,
        "readyTime": _TIME,
        "restartCount": _COUNT,
        "storage": {
            "type": "object",
            "properties": dict.fromkeys(("claimName", "claimPhase", "capacity", "requested", "resize", "used"), _TEXT)
            | {"usedPercent": _COUNT},
        },
        "lastError": {
            "type": "object",
            "properties": {
                "reason": _TEXT,
                "message": _TEXT,
                "time": _TIME,
                "attempts": _COUNT,
                "nextRetryTime": _TIME,
            },
        },
    },
}

_METADATA: Unstructured = {
    "type": "object",
    "required": ["ageSeconds", "stale"],
    "additionalProperties": False,
    "properties": {
        "ageSeconds": {**_COUNT, "description": "How old the answer may be, as in the header Age."},
        "stale": {"type": "boolean", "description": "The source that would know better could not be asked."},
        "continue": {**_TEXT, "description": "Parameter of the next page; absent on the last one."},
    },
}

_PROBLEM: Unstructured = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "parameter": {**_TEXT, "description": "The parameter that was not understood."},
    },
}


def document(version: str) -> Unstructured:
    """The OpenAPI document. `version` is the operator's."""
    paging = [
        _parameter("query", "limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}),
        _parameter("query", "continue", _TEXT, "`metadata.continue` of the page before."),
    ]
    filters = [
        _parameter("query", "namespace", _TEXT),
        _parameter("query", "phase", _PHASE),
        _parameter("query", "ready", {"type": "boolean"}),
        _parameter("query", "user", _TEXT, "`spec.userID`, exactly."),
    ]
    one = [_parameter("path", "namespace", _TEXT), _parameter("path", "name", _TEXT)]
    return {
        "openapi": "3.1.0",
        "info": {"title": "UserStorage read API", "version": version, "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "paths": {
            "/v1/userstorages": _get(
                "listUserStorages", "UserStorages in the order of namespace and name.", filters + paging, "List"
            ),
            "/v1/namespaces/{namespace}/userstorages/{name}": _get("getUserStorage", "One UserStorage.", one, "Single"),
            "/v1/users/{userID}": _get(
                "listUserStoragesOfUser",
                "All UserStorages of a user, in all namespaces.",
                [_parameter("path", "userID", _TEXT, "Percent-encoded where needed."), *paging],
                "List",
            ),
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token that the cluster's TokenReview accepts."}
            },
            "schemas": {
                "UserStorage": _VIEW,
                "Metadata": _METADATA,
                "Single": _object(metadata=_ref("Metadata"), item=_ref("UserStorage")),
                "List": _object(metadata=_ref("Metadata"), items={"type": "array", "items": _ref("UserStorage")}),
                "Problem": _PROBLEM,
            },
        },
    }


def _get(operation: str, summary: str, parameters: list[Unstructured], schema: str) -> Unstructured:
    known = _parameter("header", "If-None-Match", _TEXT, "An ETag: 304 where the answer is still that.")
    headers = {
        "ETag": {"schema": _TEXT, "description": "Strong: changes with every byte of the body."},
        "Age": {"schema": _COUNT, "description": "Seconds, as `metadata.ageSeconds`."},
        "Cache-Control": {"schema": _TEXT},
    }
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    problems = {
        "400": "A parameter is not understood.",
        "401": "No token, or none that is valid here.",
        "403": "The caller may not read that, whether or not it is there.",
        "404": "There is no such thing here.",
        "500": "A fault of the operator.",
        "503": "Nobody could be asked; see Retry-After.",
    }
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": [*parameters, known],
            "responses": {
                "200": {
                    "description": "The answer.",
                    "headers": headers,
                    "content": {"application/json": {"schema": _ref(schema)}},
                },
                "304": {"description": "The caller has it already.", "headers": headers},
                **{code: {"description": words, "content": problem} for code, words in problems.items()},
            },
        }
    }


def _parameter(where: str, name: str, schema: Unstructured, description: str = "") -> Unstructured:
    described = {"description": description} if description else {}
    return {"name": name, "in": where, "required": where == "path", "schema": schema, **described}


def _object(**properties: Unstructured) -> Unstructured:
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


def _ref(name: str) -> Unstructured:
    return {"$ref": f"#/components/schemas/{name}"}
