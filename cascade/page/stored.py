"""Stored traffic over HTTP: a node's last decisions as they are stored, to keys that may read them."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cascade.errors import CascadeError, InvalidInput, PermissionDenied, UnknownNode
from cascade.gateway.entry import enter
from cascade.gateway.replies import error_reply
from cascade.page.guarding import Hosts
from cascade.server.gate import Gate
from cascade.traffic.decision_columns import DECISION_COLUMNS
from cascade.traffic.records import Decision
from cascade.traffic.store import TrafficStore

_LAST, _MOST = 10, 200
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_log = logging.getLogger(__name__)


class StoredTraffic:
    """Gives what was said, as it is stored: redacted, and decrypted where it is encrypted.

    Parameters
    ----------
    nodes : sequence of str
    store : TrafficStore
    gate : Gate
        A key needs the verb `read` or `admin`. One with `read` alone reads its own tenant's traffic. Where no
        keys are configured nobody reads, since nothing tells who asks.
    hosts : Hosts
    """

    def __init__(self, nodes: tuple[str, ...], store: TrafficStore, gate: Gate, hosts: Hosts) -> None:
        self._nodes, self._store, self._gate, self._hosts = nodes, store, gate, hosts
        self.routes = [Route("/traffic/{node}", self.read, methods=["GET"])]

    async def read(self, request: Request) -> Response:
        """Give the last decisions, the newest last."""
        try:
            self._hosts.check(request)
            if self._gate.open:
                raise PermissionDenied(
                    "stored traffic is read with a key only, and none are configured: set "
                    "`auth: {keys: keys.json}` and make one by `cascade key create TENANT --verb read`"
                )
            caller = enter(self._gate, request, "read")
            node = request.path_params["node"]
            caller.check_node(node)
            if node not in self._nodes:
                raise UnknownNode(node, list(self._nodes))
            last = _count(request.query_params.get("last", str(_LAST)))
            tenant = caller.reads_tenant
            found = await run_in_threadpool(last_decisions, self._store, node, last, tenant)
        except CascadeError as error:
            return error_reply(error, _HEADERS)
        of = "all tenants" if tenant is None else f"tenant {tenant!r}"
        _log.info("key %s read %d decisions of node %s, %s", caller.key, len(found), node, of)
        # ASCII, since a validator's words may hold half a surrogate pair, which is stored and is no UTF-8.
        said = json.dumps({"node": node, "decisions": [shown(each) for each in found]})
        return Response(said, headers=_HEADERS, media_type="application/json")


def last_decisions(store: TrafficStore, node: str, last: int, tenant: str | None = None) -> list[Decision]:
    """Give a node's last decisions, the newest last; of one tenant, or of all.

    Raises
    ------
    StoreError
    """
    where, values = ("", ()) if tenant is None else (" AND tenant = ?", (tenant,))
    query = f"SELECT {DECISION_COLUMNS} FROM decisions WHERE node = ?{where} ORDER BY seq DESC LIMIT ?"
    with store.database.reading() as connection:
        rows = connection.execute(query, (node, *values, last)).fetchall()
    return [store.rows.decision_of(row) for row in reversed(rows)]


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= _MOST:
        raise InvalidInput("last", f"is a number from 1 to {_MOST}")
    return int(text)


def shown(decision: Decision) -> dict[str, Any]:
    """Give what a reader of stored traffic sees of a decision, as a JSON object."""
    return {
        "decision_id": decision.decision_id, "time": decision.time, "text": decision.text,
        "messages": decision.messages, "context": decision.context, "output": decision.output,
        "rung": decision.rung, "error": decision.error, "mode": decision.mode,
        "bundle": decision.bundle_version, "attempts": decision.attempts,
    }  # fmt: skip
