"""Specs of a UserStorageClass that the API server must refuse or admit. A leading number is the row in `catalogue.py`."""

from typing import Any

from component import bad_pod_metadata, bad_scheduling
from support.manifests import ABSENT, Accepted, Change, Refused

_OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
_HOST = "${slug}.files.example.org"
_GATEWAY = {"name": "public"}


def _browser(**fields: object) -> dict[str, Any]:
    return {"browser": fields}


def _resources(requests: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    return _browser(resources={"requests": requests, "limits": limits})


def _storage(**fields: object) -> dict[str, Any]:
    return {"storage": fields}


def _network(**fields: object) -> dict[str, Any]:
    return {"network": fields}


def _annotation(value: str) -> dict[str, Any]:
    return _network(annotations={"example.org/a": value})


def _allowed_from(**peer: object) -> dict[str, Any]:
    return _network(allowedFrom=[peer])


def _allowed(*keys: str) -> dict[str, Any]:
    return {"podMetadata": {"allowed": list(keys)}}


def _requirement(**fields: object) -> dict[str, Any]:
    return _allowed_from(podSelector={"matchExpressions": [fields]})


def _host(template: str) -> dict[str, Any]:
    return _network(expose="Ingress", hostTemplate=template)


_RESERVED = "network.hostTemplate must not make a label with hyphens in the third and fourth place"

REFUSED = [
    Refused("reserved label", _host("ab--${slug}.example.org"), _RESERVED),
    Refused("reserved label beside a variable", _host("${slug}.ab--cd.example.org"), _RESERVED),
    Refused("reserved label of a slug of two characters", _host("${slug}--files.example.org"), _RESERVED),
    Refused("reserved label of a slug of one character", _host("a${slug}--files.example.org"), _RESERVED),
    Refused("reserved label of a namespace of two characters", _host("${namespace}--${slug}.example.org"), _RESERVED),
    Refused("a label that looks internationalised", _host("xn--${slug}.example.org"), _RESERVED),
    Refused("defaultSize with an exponent that is cut", _storage(defaultSize="1e4294967303"), "storage.defaultSize must be a"),
    Refused("maxSize in Arabic digits", _storage(maxSize="\u0665Gi"), "storage.maxSize must be a quantity"),
    Refused("maxUnavailable in Arabic digits", {"rollout": {"maxUnavailable": "\u0665"}}, "rollout.maxUnavailable must be"),
    Refused("1 no spec", ABSENT, "spec: Required value"),
    Refused("flavor unknown", _browser(flavor="Nextcloud"), "spec.browser.flavor: Unsupported value"),
    Refused("Custom without image", _browser(flavor="Custom") | {"auth": _OPEN}, "browser.image is required"),
    Refused("image empty", _browser(image=""), "spec.browser.image: Invalid value"),
    Refused("directoryImage empty", _storage(directoryImage=""), "spec.storage.directoryImage: Invalid value"),
    Refused("directoryImage with a space", _storage(directoryImage="a b"), "spec.storage.directoryImage: Invalid value"),
    Refused("image with a space", _browser(image="a b"), "spec.browser.image: Invalid value"),
    Refused("41 port 0", _browser(port=0), "spec.browser.port: Invalid value"),
    Refused("41 port 80", _browser(port=80), "spec.browser.port: Invalid value"),
    Refused("41 port 70000", _browser(port=70_000), "spec.browser.port: Invalid value"),
    Refused("41 port a word", _browser(port="http"), "spec.browser.port: Invalid value"),
    Refused("30 command words", _browser(command=["x"] * 33), "spec.browser.command: Too many"),
    Refused("30 a thousand args", _browser(args=["x"] * 1000), "spec.browser.args: Too many"),
    Refused("60 a huge argument", _browser(args=["x" * 1025]), "spec.browser.args[0]: Too long"),
    Refused("env without name", _browser(env=[{"value": "x"}]), "spec.browser.env[0].name: Required value"),
    Refused("env name", _browser(env=[{"name": "a=b"}]), "spec.browser.env[0].name: Invalid value"),
    Refused("env twice", _browser(env=[{"name": "A"}, {"name": "A"}]), "spec.browser.env[1]: Duplicate value"),
    Refused("30 env", _browser(env=[{"name": f"A{n}"} for n in range(65)]), "spec.browser.env: Too many"),
    Refused("healthPath relative", _browser(healthPath="health"), "browser.healthPath must start with /"),
    Refused("healthPath a command", _browser(healthPath="/$(id)"), "browser.healthPath may hold letters"),
    Refused("basePath relative", _browser(basePath="files/"), "browser.basePath must start and end with one /"),
    Refused("basePath without end", _browser(basePath="/files"), "browser.basePath must start and end with one /"),
    Refused("basePath //", _browser(basePath="//"), "browser.basePath must start and end with one /"),
    Refused("C23 basePath with an unknown variable", _browser(basePath="/${user}/"), "browser.basePath may hold letters"),
    Refused("C23 basePath with a nested variable", _browser(basePath="/${na${slug}me}/"), "${slug}, ${namespace}, ${name}"),
    Refused("C23 healthPath with an unknown variable", _browser(healthPath="/${user}"), "browser.healthPath may hold"),
    Refused("basePath ..", _browser(basePath="/a/../"), "browser.basePath must not have . or .."),
    Refused("permission a word", _browser(permissions={"share": "no"}), "spec.browser.permissions.share: Invalid"),
    Refused("24 cpu limit below request", _resources({"cpu": "2"}, {"cpu": "1"}), "limits must not be below"),
    Refused("24 memory limit below request", _resources({"memory": "2Gi"}, {"memory": "512Mi"}), "limits must not be"),
    Refused("24 cpu negative", _resources({"cpu": "-1"}, {}), "browser.resources.requests must be positive"),
    Refused("24 cpu 0 as limit", _resources({}, {"cpu": 0}), "browser.resources.limits must be positive"),
    Refused("24 memory of one byte", _resources({"memory": "1"}, {}), "browser.resources.requests must be at least 1Mi"),
    Refused("24 memory limit of one byte", _resources({}, {"memory": 1}), "browser.resources.limits must be at least"),
    Refused("memory no quantity", _resources({"memory": "lots"}, {}), "browser.resources.requests must be positive"),
    Refused("25 graphics card", _resources({}, {"nvidia.com/gpu": 1}), "browser.resources.limits may hold cpu, memory"),
    Refused("25 huge pages", _resources({"hugepages-2Mi": "2Mi"}, {}), "browser.resources.requests may hold cpu"),
    Refused("storageClassName", _storage(storageClassName="a/b"), "storage.storageClassName must be a DNS name"),
    Refused("accessModes empty", _storage(accessModes=[]), "spec.storage.accessModes: Invalid value"),
    Refused("accessModes unknown", _storage(accessModes=["RW"]), "spec.storage.accessModes[0]: Unsupported value"),
    Refused("accessModes twice", _storage(accessModes=["ReadWriteOnce"] * 2), "spec.storage.accessModes[1]: Duplicate"),
    Refused(
        "accessModes that exclude each other",
        _storage(accessModes=["ReadWriteOnce", "ReadWriteOncePod"]),
        "storage.accessModes must not join ReadWriteOncePod",
    ),
    Refused("16 defaultSize", _storage(defaultSize="abc"), "storage.defaultSize must be a quantity"),
    Refused("17 defaultSize 0", _storage(defaultSize="0"), "storage.defaultSize must be at least 1Mi"),
    Refused("16 maxSize", _storage(maxSize="1 Gi"), "storage.maxSize must be a quantity"),
    Refused("19 maxSize", _storage(maxSize="2Pi"), "storage.maxSize must be at least 1Mi and at most 1Pi"),
    Refused(
        "defaultSize above maxSize",
        _storage(defaultSize="2Gi", maxSize="1Gi"),
        "storage.defaultSize must not exceed storage.maxSize",
    ),
    Refused("onClaimLoss unknown", _storage(onClaimLoss="Ignore"), "spec.storage.onClaimLoss: Unsupported value"),
    Refused("maxSize below the default of defaultSize", _storage(maxSize="5Gi"), "storage.defaultSize must not exceed"),
    Refused("auth mode unknown", {"auth": {"mode": "Basic"}}, "spec.auth.mode: Unsupported value"),
    Refused("no authentication, unacknowledged", {"auth": {"mode": "None"}}, "auth.acknowledgeUnauthenticated must be true"),
    Refused("Dufs behind a header", _browser(flavor="Dufs"), "auth.mode must be None"),
    Refused("Custom behind a header", _browser(flavor="Custom", image="x"), "auth.mode must be None"),
    Refused("header name", {"auth": {"headerName": "X User"}}, "spec.auth.headerName: Invalid value"),
    *(
        Refused(f"header {name}", {"auth": {"headerName": name}}, "auth.headerName must not be a header of HTTP itself")
        for name in ("Authorization", "cookie", "HOST", "Content-Length", "Proxy-Authorization", "Transfer-Encoding", "TE")
    ),
    Refused("expose unknown", _network(expose="NodePort"), "spec.network.expose: Unsupported value"),
    Refused("Ingress without host", _network(expose="Ingress"), "network.hostTemplate is required"),
    Refused("Gateway without host", _network(expose="Gateway", gateway=_GATEWAY), "network.hostTemplate is required"),
    Refused("Gateway without gateway", _network(expose="Gateway", hostTemplate=_HOST), "network.gateway is required"),
    Refused("C24 gateway without name", _network(gateway={"namespace": "infra"}), "spec.network.gateway.name: Required value"),
    Refused("C24 gateway with a path", _network(gateway={"name": "infra/gw"}), "spec.network.gateway.name: Invalid value"),
    Refused("C24 gateway namespace", _network(gateway=_GATEWAY | {"namespace": "a.b"}), "spec.network.gateway.namespace: Inv"),
    Refused("C24 listener", _network(gateway=_GATEWAY | {"sectionName": "HTTPS"}), "spec.network.gateway.sectionName: Invalid"),
    Refused(
        "C23 one host and path for all users",
        _network(expose="Ingress", hostTemplate="files.example.org"),
        "network.hostTemplate or browser.basePath must contain ${slug}",
    ),
    Refused(
        "C23 one host and path for all users of a namespace",
        _network(expose="Ingress", hostTemplate="${namespace}.example.org") | _browser(basePath="/${namespace}/"),
        "network.hostTemplate or browser.basePath must contain ${slug}",
    ),
    Refused("42 host *", _network(hostTemplate="*.${slug}.org"), "network.hostTemplate must be a DNS name"),
    Refused("42 host -a", _network(hostTemplate="-a.${slug}.org"), "network.hostTemplate must be a DNS name"),
    Refused("host with a path", _network(hostTemplate=_HOST + "/x"), "network.hostTemplate must be a DNS name"),
    Refused("C23 raw id in a host", _network(hostTemplate="${userID}.example.org"), "network.hostTemplate must be a DNS name"),
    Refused("C23 host with an unknown variable", _network(hostTemplate="${user}.org"), "${slug}, ${namespace} and ${name}"),
    Refused(
        "C25 reserved by a name of two characters", _network(hostTemplate="${name}--${slug}.org"), "in the third and fourth"
    ),
    Refused("C25 reserved host label", _network(hostTemplate="us--${slug}.org"), "not make a label with hyphens in the third"),
    Refused("ingressClassName", _network(ingressClassName="A"), "spec.network.ingressClassName: Invalid value"),
    Refused("tlsSecretName", _network(tlsSecretName="../x"), "network.tlsSecretName must be a DNS name"),
    Refused("C23 raw id in a Secret", _network(tlsSecretName="${userID}-tls"), "network.tlsSecretName must be a DNS name"),
    Refused("C23 Secret with an unknown variable", _network(tlsSecretName="${user}-tls"), "network.tlsSecretName must be"),
    Refused("ingress annotation key", _network(annotations={"a b": "x"}), "network.annotations keys must be valid"),
    Refused("C23 annotation with an unknown variable", _annotation("${user}"), "network.annotations values know the variables"),
    Refused(
        "C23 annotation with an open variable", _annotation("a${slug"), "${slug}, ${namespace}, ${name} and ${userID} only"
    ),
    Refused("policy unknown", _network(policy="Open"), "spec.network.policy: Unsupported value"),
    Refused("peer of nothing", _allowed_from(), "network.allowedFrom[] needs podSelector"),
    Refused("peer of two kinds", _allowed_from(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}), "ipBlock cannot be joined"),
    Refused("peer address", _allowed_from(ipBlock={"cidr": "10.0.0.0"}), "ipBlock.cidr must be a CIDR"),
    Refused(
        "peer exception",
        _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": ["x"]}),
        "ipBlock.except must hold CIDRs",
    ),
    Refused("C14 peer address with host bits", _allowed_from(ipBlock={"cidr": "10.0.0.5/8"}), "ipBlock.cidr must start at"),
    Refused("peer address, IPv6 host bits", _allowed_from(ipBlock={"cidr": "2001:db8::1/64"}), "ipBlock.cidr must start at"),
    Refused(
        "peer address, IPv4 in IPv6", _allowed_from(ipBlock={"cidr": "::ffff:10.0.0.0/104"}), "ipBlock.cidr must be a CIDR"
    ),
    Refused(
        "C14 peer exception outside",
        _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "192.168.0.0/16"]}),
        "spec.network.allowedFrom[0].ipBlock.except: Invalid value",
    ),
    Refused(
        "peer exception of everything",
        _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
        "ipBlock.except must hold ranges inside",
    ),
    Refused(
        "peer exception of another family",
        _allowed_from(ipBlock={"cidr": "0.0.0.0/0", "except": ["2001:db8::/64"]}),
        "ipBlock.except must hold ranges inside",
    ),
    Refused(
        "peer exception with host bits",
        _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.1/16"]}),
        "ipBlock.except must hold ranges that start",
    ),
    Refused("peer label key", _allowed_from(podSelector={"matchLabels": {"a b": "x"}}), "matchLabels keys must be valid"),
    Refused("peer label", _allowed_from(namespaceSelector={"matchLabels": {"a": "b c"}}), "matchLabels values must be valid"),
    Refused("peer key", _requirement(key="a b", operator="Exists"), "matchExpressions[].key must be a valid label key"),
    Refused("peer value", _requirement(key="a", operator="In", values=["-"]), "matchExpressions[].values must be valid"),
    Refused("peer operator", _requirement(key="a", operator="Gt"), "operator: Unsupported value"),
    Refused("peer values missing", _requirement(key="a", operator="In"), "matchExpressions[].values must be set"),
    Refused("peer values", _requirement(key="a", operator="Exists", values=["x"]), "matchExpressions[].values must be"),
    Refused("30 peers", _network(allowedFrom=[{"podSelector": {}}] * 17), "spec.network.allowedFrom: Too many"),
    Refused("root", {"security": {"runAsUser": 0}}, "spec.security.runAsUser: Invalid value"),
    Refused("root's group", {"security": {"runAsGroup": 0}}, "spec.security.runAsGroup: Invalid value"),
    Refused("root's files", {"security": {"fsGroup": 0}}, "spec.security.fsGroup: Invalid value"),
    Refused("user id past 31 bits", {"security": {"runAsUser": 2**31}}, "spec.security.runAsUser: Invalid value"),
    *(Refused(row.name, {"scheduling": row.spec}, row.message) for row in bad_scheduling.REFUSED),
    *(Refused(row.name, {"scheduling": row.spec}, row.message) for row in bad_scheduling.REFUSED_FOR_CLASSES),
    *(Refused(row.name, {"podMetadata": row.spec}, row.message) for row in bad_pod_metadata.REFUSED),
    Refused("pod metadata allowed: every key", _allowed("/"), "podMetadata.allowed must hold valid label keys, or prefixes"),
    Refused("pod metadata allowed: a pattern", _allowed("example.org/*"), "podMetadata.allowed must hold valid label keys"),
    Refused("pod metadata allowed: empty", _allowed(""), "spec.podMetadata.allowed[0]: Invalid value"),
    Refused("pod metadata allowed: ours", _allowed("userstorage.dev/"), "podMetadata.allowed must not hold keys of this"),
    Refused("pod metadata allowed: our label", _allowed("app"), "podMetadata.allowed must not hold keys of this operator"),
    Refused("pod metadata allowed twice", _allowed("a", "a"), "spec.podMetadata.allowed[1]: Duplicate value"),
    Refused("30 keys of pod metadata allowed", _allowed(*(f"k{n}" for n in range(33))), "spec.podMetadata.allowed: Too many"),
    Refused("limit of 0", {"limits": {"maxPerNamespace": 0}}, "spec.limits.maxPerNamespace: Invalid value"),
    Refused("rollout 0", {"rollout": {"maxUnavailable": 0}}, "rollout.maxUnavailable must be a number"),
    Refused("rollout 0%", {"rollout": {"maxUnavailable": "0%"}}, "rollout.maxUnavailable must be a number"),
    Refused("rollout 101%", {"rollout": {"maxUnavailable": "101%"}}, "rollout.maxUnavailable must be a number"),
    Refused("rollout a word", {"rollout": {"maxUnavailable": "all"}}, "rollout.maxUnavailable must be a number"),
    Refused("rollout paused by a word", {"rollout": {"paused": "yes"}}, "spec.rollout.paused: Invalid value"),
]

ACCEPTED = [
    Accepted("an internationalised domain", _host("${slug}.xn--mnchen-3ya.example.org")),
    Accepted("hyphens elsewhere", _host("abc--${slug}--${namespace}.example.org")),
    Accepted("only defaults", {}),
    Accepted(
        "browser",
        _browser(
            flavor="Quantum",
            image="docker.io/gtstef/filebrowser@sha256:" + "0" * 64,
            port=1025,
            command=["/bin/app"],
            args=["--verbose", ""],
            env=[{"name": "LANG", "value": "C"}, {"name": "EMPTY"}],
            healthPath="/api/health",
            basePath="/files/${namespace}/${slug}/",
            permissions={"share": True, "download": False},
        ),
    ),
    Accepted("Custom", _browser(flavor="Custom", image="registry.example.org:5000/a/b:1") | {"auth": _OPEN}),
    Accepted("Copyparty", _browser(flavor="Copyparty")),
    Accepted("Dufs", _browser(flavor="Dufs") | {"auth": _OPEN}),
    Accepted(
        "resources",
        _resources({"cpu": "10m", "memory": "64Mi"}, {"cpu": 1, "memory": 2**28, "ephemeral-storage": "1Gi"}),
    ),
    Accepted("resources without limits", _browser(resources={"requests": {"cpu": "0.5"}})),
    Accepted(
        "storage",
        _storage(
            storageClassName="fast.v1",
            accessModes=["ReadWriteOnce", "ReadWriteMany"],
            defaultSize="1Gi",
            maxSize=2**40,
        ),
    ),
    Accepted("one pod's volume", _storage(accessModes=["ReadWriteOncePod"], defaultSize="1Gi", maxSize="1Gi")),
    Accepted("directoryImage", _storage(directoryImage="registry.example.org:5000/busybox@sha256:" + "0" * 64)),
    Accepted("no new claim without consent", _storage(onClaimLoss="Wait")),
    Accepted("another header", {"auth": {"headerName": "X-Auth-Request-Email"}}),
    Accepted(
        "Ingress",
        _network(
            expose="Ingress",
            hostTemplate="${slug}-${namespace}.example.org",
            ingressClassName="nginx",
            tlsSecretName="wildcard",  # the name of a Secret, not its content
            annotations={"example.org/note": "x"},
            policy="None",
        ),
    ),
    Accepted("Gateway", _network(expose="Gateway", hostTemplate=_HOST, gateway=_GATEWAY)),
    Accepted(
        "C24 one listener of a Gateway elsewhere",
        _network(expose="Gateway", hostTemplate=_HOST, gateway=_GATEWAY | {"namespace": "infra", "sectionName": "https"}),
    ),
    Accepted(
        "C23 one host for all",
        _network(expose="Ingress", hostTemplate="files.example.org", tlsSecretName="${slug}-tls")
        | _browser(basePath="/u/${slug}/", healthPath="/u/${slug}/health"),
    ),
    Accepted(
        "C23 every variable",
        _network(
            expose="Ingress",
            hostTemplate="${slug}-${namespace}.${name}.xn--bcher-kva.example",
            tlsSecretName="${namespace}.${name}.${slug}",
            annotations={"example.org/url": "https://sso/${namespace}/${name}/${slug}/?user=${userID}&rd=$request_uri"},
        )
        | _browser(basePath="/${namespace}/${name}/${slug}/${userID}/"),
    ),
    Accepted("C23 annotations as long as can be", _network(annotations={f"a{n}": "${slug}" * 585 for n in range(32)})),
    Accepted("peer: all pods of the namespace", _allowed_from(podSelector={})),
    Accepted("peer by both selectors", _allowed_from(podSelector={}, namespaceSelector={"matchLabels": {"team": "proxy"}})),
    Accepted("peer addresses", _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})),
    Accepted("peer addresses, IPv6", _allowed_from(ipBlock={"cidr": "2001:db8::/64"})),
    Accepted("peer: any address", _allowed_from(ipBlock={"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.7.3/32"]})),
    Accepted("C13 peer with empty lists", _allowed_from(ipBlock={"cidr": "10.0.0.0/8", "except": []})),
    Accepted("peer by a prefixed label", _allowed_from(podSelector={"matchLabels": {"example.org/team": ""}})),
    Accepted("peer by values", _requirement(key="a", operator="NotIn", values=["b"])),
    Accepted("peer by key", _requirement(key="a", operator="DoesNotExist")),
    Accepted("ids", {"security": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 2**31 - 1}}),
    *(Accepted(row.name, {"scheduling": row.spec}) for row in bad_scheduling.ACCEPTED),
    *(Accepted(row.name, {"scheduling": row.spec}) for row in bad_scheduling.ACCEPTED_FOR_CLASSES),
    *(Accepted(row.name, {"podMetadata": row.spec}) for row in bad_pod_metadata.ACCEPTED),
    Accepted("pod metadata allowed", _allowed("team", "example.org/", "cluster-autoscaler.kubernetes.io/safe-to-evict")),
    Accepted("limits", {"limits": {"maxPerNamespace": 500}}),
    Accepted("rollout by number", {"rollout": {"maxUnavailable": 3}}),
    Accepted("rollout of all", {"rollout": {"maxUnavailable": "100%"}}),
    Accepted("rollout paused", {"rollout": {"paused": True}}),
]

CHANGES = [
    Change(
        "38 storageClassName changed",
        _storage(storageClassName="a"),
        _storage(storageClassName="b"),
        "storage.storageClassName is immutable",
    ),
    Change("39 storageClassName removed", _storage(storageClassName="a"), {}, "storage.storageClassName is immutable"),
    Change("storageClassName added", {}, _storage(storageClassName="a"), "storage.storageClassName is immutable"),
    Change("40 accessModes changed", {}, _storage(accessModes=["ReadWriteMany"]), "storage.accessModes is immutable"),
    Change("39 accessModes removed", _storage(accessModes=["ReadWriteMany"]), {}, "storage.accessModes is immutable"),
    Change("sizes changed", _storage(defaultSize="2Gi"), _storage(defaultSize="1Gi", maxSize="1Gi")),
    Change("storage unchanged", _storage(storageClassName="a"), _storage(storageClassName="a", maxSize="1Ti")),
    Change("another browser", {}, _browser(flavor="Quantum")),
]
