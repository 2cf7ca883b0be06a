"""HTTP and WebSockets to the API server, with the credentials of a kubeconfig. With `portforward`, the only module that knows kr8s
and httpx, whose import takes a third of a second: commands load it when they first need the cluster.

Credentials that expire, those of an exec plugin, are renewed: a request that is answered by 401 is sent once more after a new login.
"""

import asyncio
import contextlib
import functools
import os
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import httpx_ws
import kr8s.asyncio
from kr8s.asyncio.objects import Pod

from kubectl_userstorage import errors
from kubectl_userstorage.api import Raw
from kubectl_userstorage.cluster import Answer, Cluster, Stream, Target
from kubectl_userstorage.portforward import PROTOCOL, connection

T = TypeVar("T")
_TIMEOUT = httpx.Timeout(30)
_STATUS_ERRORS = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    429: errors.Unavailable,
}


class KubeTransport:
    """A Transport of kr8s. `login` returns a client with new credentials."""

    def __init__(self, api: kr8s.asyncio.Api, login: Callable[[], Awaitable[kr8s.asyncio.Api]]) -> None:
        self._api = api
        self._login = login
        self._renewal = asyncio.Lock()

    @property
    def namespace(self) -> str:
        """The namespace of the context; empty if it names none."""
        auth = self._api.auth
        if not auth.active_context:  # in a pod
            return str(auth.namespace)
        # kr8s takes the namespace of the current context, also if --context names another one.
        return str(auth.kubeconfig.get_context(auth.active_context).get("namespace") or "")

    async def version(self) -> str:
        """Return the version of the API server."""
        with _connection_errors():
            return str((await self._api.version())["gitVersion"])

    async def request(
        self, method: str, path: str, params: Mapping[str, str] | None, content: str | None, headers: Mapping[str, str] | None
    ) -> Answer:
        """Send a request and return the answer, also if it is an error."""
        sent = functools.partial(_call, method=method, path=path, params=params, content=content, headers=headers)
        with _connection_errors():
            async with self._answered(sent) as response:
                return Answer(response.content, _error(response) if response.is_error else None)

    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[str]:
        """Yield the lines of a response as they arrive."""
        timeout = httpx.Timeout(30, read=None)
        sent = functools.partial(_call, method="GET", path=path, stream=True, params=params, timeout=timeout)
        with _connection_errors():
            async with self._answered(sent) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response)
                async for line in response.aiter_lines():
                    yield line

    @contextlib.asynccontextmanager
    async def forward(self, pod: Raw, port: int) -> AsyncIterator[Stream]:
        """Open one connection to a port of a pod, and yield it. Raises Forbidden without the right to."""
        meta = pod["metadata"]
        options: dict[str, Any] = {
            "url": f"pods/{meta['name']}/portforward",
            "namespace": meta["namespace"],
            "params": {"ports": str(port)},
            "subprotocols": [PROTOCOL],
            # A connection whose client reads slowly answers no ping, either: pings are sent for what is between, and not awaited.
            "keepalive_ping_timeout_seconds": None,
        }
        async with contextlib.AsyncExitStack() as stack:
            with _websocket_errors("portforward", pod):
                stream = await self._opened(
                    lambda api: stack.enter_async_context(connection(functools.partial(api.open_websocket, **options)))
                )
            yield stream

    async def execute(self, pod: Raw, container: str, command: list[str]) -> tuple[int, str, str]:
        """Run a command in a container. Return its exit code, standard output and standard error."""
        with _websocket_errors("exec", pod):
            done = await self._opened(lambda api: Pod(pod, api=api).exec(command, container=container, check=False))
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    async def _opened(self, opening: Callable[[kr8s.asyncio.Api], Awaitable[T]]) -> T:
        """Return what `opening` returns, which opens a WebSocket: at the second try, if the first one is answered by 401."""
        api = self._api
        try:
            return await opening(api)
        except httpx_ws.WebSocketUpgradeError as error:
            if error.response.status_code != 401:
                raise
        await self._renew(api)
        return await opening(self._api)

    @contextlib.asynccontextmanager
    async def _answered(
        self, sent: Callable[[kr8s.asyncio.Api], contextlib.AbstractAsyncContextManager[httpx.Response]]
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and yield the response: that to the second request, if the first one was answered by 401."""
        api = self._api
        async with sent(api) as response:
            if response.status_code != 401:
                yield response
                return
        await self._renew(api)
        async with sent(self._api) as response:
            yield response

    async def _renew(self, stale: kr8s.asyncio.Api) -> None:
        """Log in again, unless another request has. Connections of the former client stay open."""
        async with self._renewal:
            if self._api is stale:
                self._api = await self._login()


def _call(api: kr8s.asyncio.Api, *, path: str, **options: Any) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
    # raise_for_status=False: kr8s would log in three more times after each 403, which costs three runs of an exec plugin.
    base, _, rest = path.rpartition("/")
    return api.call_api(version="", base=base, url=rest, raise_for_status=False, **options)


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Cluster]:
    """Log in with the kubeconfig and yield the cluster. Raises Unreachable, which names the option to check, if that fails."""
    warnings.filterwarnings("ignore", category=UserWarning, module="kr8s")  # a version of Kubernetes newer than kr8s
    kubeconfig = target.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    # kr8s writes the client key of the kubeconfig into temporary files and leaves them there.
    former = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="kubectl-userstorage-") as directory:
        tempfile.tempdir = directory
        try:
            login = functools.partial(_login, kubeconfig, target.context)
            yield Cluster(KubeTransport(await login(), login))
        finally:
            tempfile.tempdir = former


async def _login(kubeconfig: str, context: str | None) -> kr8s.asyncio.Api:
    with _connection_errors():
        try:
            # Not `kr8s.asyncio.api`: it returns the client that it has made before, with the credentials of that time.
            api: kr8s.asyncio.Api = await kr8s.asyncio.Api(kubeconfig=kubeconfig, context=context, bypass_factory=True)
        except kr8s.ServerError as error:  # of the request for the version
            raise _error(error.response) if error.response is not None else errors.Unreachable(str(error)) from error
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            option = f"--context {context}" if context and "context" in str(error) else f"--kubeconfig {kubeconfig}"
            raise errors.Unreachable(f"{option}: {error}") from error
    api.timeout = _TIMEOUT
    return api


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, kr8s.APITimeoutError, kr8s.ConnectionClosedError, ssl.SSLError, OSError) as error:
        raise errors.Unreachable(f"the API server does not answer: {str(error) or type(error).__name__}") from error


@contextlib.contextmanager
def _websocket_errors(subresource: str, pod: Raw) -> Iterator[None]:
    """Map the failures of a WebSocket of a pod."""
    what = f"pods/{subresource} of {pod['metadata']['name']!r} in namespace {pod['metadata']['namespace']!r}"
    try:
        yield
    except errors.CommandError:
        raise
    except httpx_ws.WebSocketUpgradeError as error:
        status = error.response.status_code  # the body is closed unread
        needed = "; needs the rights get and create" if status == 403 else ""
        message = f"{what}: the API server answers {status} {error.response.reason_phrase}{needed}"
        raise _kind(status)(message) from error
    except kr8s.ServerError as error:  # of the request for the pod, before an exec
        raise _error(error.response) if error.response is not None else errors.Unreachable(str(error)) from error
    except Exception as error:  # of httpx, httpx_ws, wsproto, httpcore, anyio and kr8s: they share no class
        cause = error
        while isinstance(cause, ExceptionGroup):  # of anyio
            cause = cause.exceptions[0]
        if isinstance(cause, AttributeError):  # kr8s: the kubelet reports a failure that is no exit code
            cause = kr8s.ExecError("the command could not be run")
        raise errors.Unreachable(f"{what}: {str(cause) or type(cause).__name__}") from error


def _kind(status: int) -> type[errors.CommandError]:
    return errors.Unavailable if status >= 500 else _STATUS_ERRORS.get(status, errors.CommandError)


def _error(response: httpx.Response) -> errors.CommandError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or response.reason_phrase
    return _kind(response.status_code)(message)
