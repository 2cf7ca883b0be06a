"""The OpenAPI 3.1 document of the read API, served at /v1/openapi.json. The tests validate every response against it."""

from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readapi.parameters import LABEL, LIMIT_DEFAULT, LIMIT_MAX

_TEXT: Unstructured = {"type": "string"}
_TIME: Unstructured = {"type": "string", "format": "date-time"}
_COUNT: Unstructured = {"type": "integer", "minimum": 0}
_NAMESPACE: Unstructured = {**_TEXT, "maxLength": 63, "pattern": f"^{LABEL}$"}
_NAME: Unstructured = {**_TEXT, "maxLength": 253, "pattern": rf"^{LABEL}(\.{LABEL})*$"}
_USER_ID: Unstructured = {**_TEXT, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}
_PHASE: Unstructured = {"type": "string", "enum": [str(phase) for phase in Phase]}

_SUMMARY: Unstructured = {
    "type": "object",
    "description": "A summary of spec and status. A field without a value is absent. The API reference describes each field.",
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
        "observedGeneration": {
            **_COUNT,
            "description": "The generation of the spec that the status (phase, ready and the fields below) describes.",
        },
        "creationTimestamp": _TIME,
        "deletionTimestamp": {**_TIME, "description": "Set when the UserStorage is being deleted."},
        "userID": _TEXT,
        "className": _TEXT,
        "replicas": {"type": "integer", "enum": [0, 1], "description": "0 means suspended."},
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
        "ageSeconds": {**_COUNT, "description": "Maximum age of the data in seconds, as in the header Age."},
        "stale": {"type": "boolean", "description": "Whether this is the last known state, because its source is unavailable."},
        "continue": {**_TEXT, "description": "Value of the parameter `continue` for the next page; absent on the last page."},
    },
}

_PROBLEM: Unstructured = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "parameter": {**_TEXT, "description": "The unknown or malformed parameter."},
    },
}


def document(version: str) -> Unstructured:
    """Return the OpenAPI document as a dict. `version` is that of the operator."""
    paging = [
        _parameter("query", "limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}),
        _parameter("query", "continue", _TEXT, "`metadata.continue` of the previous page."),
    ]
    filters = [
        _parameter("query", "namespace", _NAMESPACE),
        _parameter("query", "phase", _PHASE),
        _parameter("query", "ready", {"type": "boolean"}),
        _parameter("query", "user", _USER_ID, "Exact `spec.userID`."),
    ]
    key = [_parameter("path", "namespace", _NAMESPACE), _parameter("path", "name", _NAME)]
    return {
        "openapi": "3.1.0",
        "info": {"title": "UserStorage read API", "version": version, "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}],
        "paths": {
            "/v1/userstorages": _get(
                "listUserStorages", "List UserStorages, ordered by namespace and name.", filters + paging, "List"
            ),
            "/v1/namespaces/{namespace}/userstorages/{name}": _get("getUserStorage", "Get one UserStorage.", key, "Single"),
            "/v1/users/{userID}": _get(
                "listUserStoragesOfUser",
                "List all UserStorages of a user in all namespaces.",
                [_parameter("path", "userID", _USER_ID, "Exact `spec.userID`, percent-encoded."), *paging],
                "List",
            ),
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token that the cluster's TokenReview accepts."}
            },
            "schemas": {
                "UserStorage": _SUMMARY,
                "Metadata": _METADATA,
                "Single": _object(metadata=_ref("Metadata"), item=_ref("UserStorage")),
                "List": _object(metadata=_ref("Metadata"), items={"type": "array", "items": _ref("UserStorage")}),
                "Problem": _PROBLEM,
            },
        },
    }


def _get(operation: str, summary: str, parameters: list[Unstructured], schema: str) -> Unstructured:
    condition = _parameter(
        "header", "If-None-Match", _TEXT, "ETag of a stored response; the response is 304 if it is unchanged."
    )
    headers = {
        "ETag": {"schema": _TEXT, "description": "Strong validator: a hash of the body."},
        "Age": {"schema": _COUNT, "description": "Maximum age of the data in seconds, as `metadata.ageSeconds`."},
        "Cache-Control": {"schema": _TEXT},
    }
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    problems = {
        "400": "A parameter is unknown, repeated or malformed.",
        "401": "No bearer token, or one that is not valid for this API.",
        "403": "The caller is not allowed to read this, whether or not it exists.",
        "404": "The UserStorage does not exist, the user has none, or this operator does not serve the namespace.",
        "500": "Internal error of the operator.",
        "503": "The API server is unavailable and no earlier state is known, or too many callers are waiting to be checked; try again after Retry-After seconds.",
    }
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": [*parameters, condition],
            "responses": {
                "200": {
                    "description": "The requested data.",
                    "headers": headers,
                    "content": {"application/json": {"schema": _ref(schema)}},
                },
                "304": {"description": "The stored response of the caller is current.", "headers": headers},
                **{code: {"description": text, "content": problem} for code, text in problems.items()},
            },
        }
    }


def _parameter(location: str, name: str, schema: Unstructured, description: str = "") -> Unstructured:
    described = {"description": description} if description else {}
    return {"name": name, "in": location, "required": location == "path", "schema": schema, **described}


def _object(**properties: Unstructured) -> Unstructured:
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


def _ref(name: str) -> Unstructured:
    return {"$ref": f"#/components/schemas/{name}"}
