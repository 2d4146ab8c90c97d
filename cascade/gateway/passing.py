"""The rest of the API: `/v1/models` with the nodes among them, and every other path passed on as it is.

Where there are keys, that rest is for keys with the verb `proxy`: it has the files, batches and stored
answers of all who share the service's account, and models whose price is not known here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from cascade.errors import CascadeError, InvalidInput, TeacherUnavailable
from cascade.gateway.bill import Bill
from cascade.gateway.entry import context_of, enter
from cascade.gateway.load import Load
from cascade.gateway.recognise import PREFIX
from cascade.gateway.replies import error_reply, raw_body
from cascade.gateway.told import told
from cascade.gateway.upstream import Upstream
from cascade.server.gate import Gate

_T = TypeVar("_T")
_BY_FRONTIER = {"x-cascade-served-by": "frontier"}
_EMBEDDINGS = "/embeddings"
_PATH = "/:@!$&'()*+,;=~"
"""What stands in a path as it is; an escaped `?` or `#` must not become the end of it."""


class Models:
    """`GET /v1/models`: the upstream's models, and a model `cascade/<node>` for each node.

    A key for certain nodes is shown these.

    Parameters
    ----------
    upstream : Upstream
    nodes : sequence of str
    gate : Gate
    """

    def __init__(self, upstream: Upstream, nodes: Sequence[str], gate: Gate) -> None:
        self._upstream, self._gate = upstream, gate
        self._nodes = tuple(nodes)

    async def listed(self, request: Request) -> Response:
        """List the models. Where the upstream lists none, there are still ours."""
        try:
            caller = enter(self._gate, request, "decide")
        except CascadeError as error:
            return error_reply(error)
        ours = [
            {"id": PREFIX + node, "object": "model", "created": 0, "owned_by": "cascade"}
            for node in self._nodes
            if not caller.nodes or node in caller.nodes
        ]
        if caller.nodes:
            return JSONResponse({"object": "list", "data": ours})
        upstream = self._upstream
        try:
            async with upstream.open("GET", "/models", upstream.headers(request.headers.items())) as response:
                body = await response.aread()
                if response.status_code in (401, 403) and upstream.callers_key:
                    return Response(body, response.status_code, upstream.given_headers(response))
            theirs = json.loads(body)["data"] if response.status_code == 200 else []
            listed = [*theirs, *ours]
        except (CascadeError, ValueError, LookupError, TypeError):
            listed = ours
        return JSONResponse({"object": "list", "data": listed})


class Passing:
    """Passes a call on as it is, so that an agent can change its `base_url` for all that it does.

    What a POST took, as its answer says (`cascade.gateway.bill`), counts as spent by its tenant. Embeddings
    do not: they cost a hundredth of what a chat model does, whose price is the only one that is known.

    Parameters
    ----------
    upstream : Upstream
    max_body_bytes : int
    gate : Gate
    load : Load
    """

    def __init__(self, upstream: Upstream, max_body_bytes: int, gate: Gate, load: Load) -> None:
        self._upstream, self._limit, self._gate, self._load = upstream, max_body_bytes, gate, load
        self._price = upstream.rung.price

    async def pass_on(self, request: Request) -> Response:
        """Pass one call on."""
        path = request.scope["path"].removeprefix("/v1")
        headers = self._upstream.headers(request.headers.items())
        stack = AsyncExitStack()
        try:
            caller = enter(self._gate, request, "proxy")
            caller.check_frontier()
            tenant = context_of(request, caller).get("tenant", "")
            self._load.admit_tenant(request.scope, tenant)
            await self._gate.counted(tenant)
            if self._gate.quotas is not None:
                self._gate.quotas.check_spending(tenant)
            bad = any(part in ("", ".", "..") for part in path.split("/")[1:])
            if bad or not (path.isascii() and path.isprintable()):
                raise InvalidInput("path", "is none that is passed on")
            query = f"?{request.url.query}" if request.url.query else ""
            content = await raw_body(request, self._limit)
            call = self._upstream.open(request.method, quote(path, _PATH) + query, headers, content or None)
            response = await _unless_gone(request, stack.enter_async_context(call))
            if response.status_code >= 400:
                return await _unless_gone(request, self._refused(response, stack))
        except ClientDisconnect:
            return Response(status_code=499)
        except CascadeError as error:
            return error_reply(error)

        kind = response.headers.get("content-type", "")
        billed = self._gate.quotas is not None and request.method == "POST" and response.status_code == 200
        bill = Bill(content, kind) if billed and path != _EMBEDDINGS else None

        async def body() -> AsyncIterator[bytes]:
            async with stack:
                async for part in response.aiter_raw():
                    if bill is not None:
                        bill.feed(part)
                    yield part
                if bill is not None:
                    bill.end()

        def pay() -> None:
            if bill is not None and self._gate.quotas is not None:
                read, written = bill.used()
                usd = (read * self._price.input + written * self._price.output) / 1e6
                self._gate.quotas.spend(tenant, usd)

        return _Closing(body(), response.status_code, self._upstream.given_headers(response), stack, pay)

    async def _refused(self, response: httpx2.Response, stack: AsyncExitStack) -> Response:
        async with stack:
            body = b"".join([part async for part in response.aiter_raw()])
        status = response.status_code
        headers, body = told(self._upstream, status, self._upstream.given_headers(response), body)
        return Response(body, status, headers | _BY_FRONTIER)


async def _unless_gone(request: Request, doing: Coroutine[Any, Any, _T]) -> _T:
    """Do something for a caller whose request has been read, and drop it once the caller has gone.

    Raises
    ------
    ClientDisconnect
    """
    task, leaving = asyncio.create_task(doing), asyncio.create_task(_leaves(request))
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise ClientDisconnect
        return task.result()
    finally:
        leaving.cancel()
        task.cancel()  # where the server ends


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Closing(StreamingResponse):
    """A stream whose upstream is let go of and paid even where the agent goes away before the first byte."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        stack: AsyncExitStack,
        pay: Callable[[], object],
    ) -> None:
        super().__init__(content, status, headers | _BY_FRONTIER)
        self._stack, self._pay = stack, pay

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        try:
            await super().__call__(scope, receive, send)
        except TeacherUnavailable:
            # The status has been given; breaking off is how HTTP says that there is no more.
            raise
        finally:
            try:
                self._pay()
            finally:
                await self._stack.aclose()
