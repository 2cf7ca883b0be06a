"""HTTP and WebSockets to the API server, with the credentials of a kubeconfig. The only module that knows kr8s and httpx, whose
import takes a third of a second: commands load it when they first need the cluster.
"""

import contextlib
import functools
import logging
import os
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping

import httpx
import kr8s.asyncio
from kr8s.asyncio.objects import Pod

from kubectl_userstorage import errors
from kubectl_userstorage.api import Raw
from kubectl_userstorage.cluster import Answer, Cluster, Target

_TIMEOUT = httpx.Timeout(30)
_STATUS_ERRORS = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
}


class KubeTransport:
    """A Transport of kr8s."""

    def __init__(self, api: kr8s.asyncio.Api) -> None:
        self._api = api

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
        # raise_for_status=False: kr8s would log in three more times after each 403, which costs three runs of an exec plugin.
        base, _, rest = path.rpartition("/")
        call = functools.partial(self._api.call_api, method, version="", base=base, url=rest, raise_for_status=False)
        with _connection_errors():
            async with call(params=params, content=content, headers=headers) as response:
                return Answer(response.content, _error(response) if response.is_error else None)

    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[str]:
        """Yield the lines of a response as they arrive."""
        base, _, rest = path.rpartition("/")
        call = functools.partial(
            self._api.call_api, "GET", version="", base=base, url=rest, raise_for_status=False, stream=True
        )
        with _connection_errors():
            async with call(params=params, timeout=httpx.Timeout(30, read=None)) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response)
                async for line in response.aiter_lines():
                    yield line

    @contextlib.asynccontextmanager
    async def forward(self, pod: Raw, port: int) -> AsyncIterator[int]:
        """Forward a free port of 127.0.0.1 to a port of a pod, and yield it."""
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a connection to a pod that is gone: its client sees it end
        async with Pod(pod, api=self._api).portforward(port, local_port="auto") as local:
            yield local

    async def execute(self, pod: Raw, container: str, command: list[str]) -> tuple[int, str, str]:
        """Run a command in a container. Return its exit code, standard output and standard error."""
        with _connection_errors():
            done = await Pod(pod, api=self._api).exec(command, container=container, check=False)
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


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
            yield Cluster(KubeTransport(await _login(kubeconfig, target.context)))
        finally:
            tempfile.tempdir = former


async def _login(kubeconfig: str, context: str | None) -> kr8s.asyncio.Api:
    with _connection_errors():
        try:
            api = await kr8s.asyncio.api(kubeconfig=kubeconfig, context=context)
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
        raise errors.Unreachable(f"the API server does not answer: {error or type(error).__name__}") from error


def _error(response: httpx.Response) -> errors.CommandError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or response.reason_phrase
    return _STATUS_ERRORS.get(response.status_code, errors.CommandError)(message)
