"""The page's routes: the page itself, its figures as JSON, and the changes of rollouts."""

from __future__ import annotations

import time
from importlib import resources
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cascade.config import Config
from cascade.errors import CascadeError, InvalidInput, PermissionDenied
from cascade.gateway.entry import enter
from cascade.gateway.replies import error_reply, raw_body
from cascade.page.guarding import CSRF, Hosts, check_same_site, new_token
from cascade.page.nodes import NodePages
from cascade.page.stored import StoredTraffic
from cascade.server.gate import Caller, Gate
from cascade.traffic.store import TrafficStore

_FILES = {
    "page.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_HOURS = (1.0, 24.0, 168.0)
_MAX_BODY = 4096
_MOST_SEEN = 256


class Page:
    """The page.

    Parameters
    ----------
    config : Config
        With an `http` section.
    store : TrafficStore
    gate : Gate
        With keys, figures need one that allows `read`, buttons one that allows `admin`.

    With `server.admin_listen` it changes nothing: that address is gRPC's, and this one is not for it.
    """

    def __init__(self, config: Config, store: TrafficStore, gate: Gate) -> None:
        assert config.http is not None
        self._gate, self._hosts = gate, Hosts(config.http.hosts)
        self._changes = config.server.admin_listen is None
        self._nodes = NodePages(config, store)
        self._seen: dict[tuple[object, ...], tuple[float, Any]] = {}
        self.routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/page/nodes", self.nodes, methods=["GET"]),
            Route("/page/nodes/{node}/{verb}", self.change, methods=["POST"]),
            Route("/page/{file}", self.file, methods=["GET"]),
            *StoredTraffic(tuple(config.nodes), store, gate, self._hosts).routes,
        ]

    async def page(self, request: Request) -> Response:
        """Give the page, and the cookie that its changes are known by."""
        try:
            self._hosts.check(request)
        except CascadeError as error:
            return error_reply(error)
        response = Response(_read("page.html"), media_type="text/html; charset=utf-8", headers=_HEADERS)
        if CSRF not in request.cookies:
            secure = request.url.scheme == "https"
            response.set_cookie(CSRF, new_token(), samesite="strict", secure=secure)
        return response

    async def file(self, request: Request) -> Response:
        """Give one of the page's own files."""
        name = request.path_params["file"]
        if name not in _FILES:
            return Response("there is no such file", 404)
        return Response(_read(name), media_type=_FILES[name], headers=_HEADERS)

    async def nodes(self, request: Request) -> Response:
        """Give as JSON the nodes that the caller may read; without `admin`, with its own tenant's figures."""
        try:
            self._hosts.check(request)
            caller = enter(self._gate, request, "read")
            hours = _hours(request.query_params.get("hours", "24"))
            return JSONResponse(await run_in_threadpool(self._gather, hours, caller), headers=_HEADERS)
        except CascadeError as error:
            return error_reply(error, _HEADERS)

    def _gather(self, hours: float, caller: Caller) -> dict[str, Any]:
        now = time.time()
        asked = hours, caller.nodes, caller.reads_tenant, caller.admin
        before = self._seen.get(asked)
        if before is not None and now - before[0] < 1.0:  # however many look, the database is asked once
            shown: dict[str, Any] = before[1]
            return shown
        nodes = self._nodes.all(now, hours, caller.nodes, caller.reads_tenant)
        shown = {
            "time": now, "hours": hours, "nodes": nodes, "may_change": caller.admin and self._changes,
            "tenant": caller.reads_tenant,
        }  # fmt: skip
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        self._seen[asked] = now, shown
        return shown

    async def change(self, request: Request) -> Response:
        """Approve, hold or roll back."""
        try:
            self._hosts.check(request)
            check_same_site(request)
            caller = enter(self._gate, request, "admin")
            if not self._changes:
                raise PermissionDenied(
                    "rollouts are changed at `server.admin_listen` only: by `cascade rollout --target`"
                )
            node, verb = request.path_params["node"], request.path_params["verb"]
            changes = {
                "approve": self._nodes.verbs.approve,
                "hold": self._nodes.verbs.hold,
                "rollback": self._nodes.verbs.rollback,
            }
            if verb not in changes:
                raise InvalidInput("verb", f"is one of {', '.join(changes)}")
            caller.check_node(node)
            why = (await raw_body(request, _MAX_BODY)).decode("utf-8", "replace").strip()[:500]
            who = f"page ({caller.key})" if caller.key else "page"
            await run_in_threadpool(changes[verb], node, who, why)
            self._seen.clear()
            return JSONResponse(await run_in_threadpool(self._nodes.verbs.describe, node), headers=_HEADERS)
        except ClientDisconnect:
            return Response(status_code=499)
        except CascadeError as error:
            return error_reply(error, _HEADERS)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if hours not in _HOURS:
        raise InvalidInput("hours", f"is one of {', '.join(f'{h:g}' for h in _HOURS)}")
    return hours


def _read(name: str) -> bytes:
    return (resources.files("cascade.page") / "static" / name).read_bytes()
