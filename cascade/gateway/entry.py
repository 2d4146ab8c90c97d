"""Who calls over HTTP: the same keys and quotas as over gRPC."""

from __future__ import annotations

from starlette.requests import Request

from cascade.errors import InvalidInput
from cascade.server.gate import Caller, Gate

_CONTEXT = "x-cascade-context-"
_NAMED = ("x-cascade-tenant", "x-cascade-session", "x-cascade-request-id")


class _Metadata:
    """A request's headers, as the gate looks for them."""

    def __init__(self, request: Request) -> None:
        self.invocation_metadata = request.headers.items()


def enter(gate: Gate, request: Request, verb: str) -> Caller:
    """Say who calls. See `Gate.enter`.

    Raises
    ------
    Unauthenticated, PermissionDenied
    """
    return gate.enter(_Metadata(request), verb)


def context_of(request: Request, caller: Caller) -> dict[str, str]:
    """Give a call's context from its headers: tenant, session, request id and whatever flags target.

    The tenant of a key wins over the header's.

    Raises
    ------
    InvalidInput
        There is too much of it.
    """
    context = {}
    for name, value in request.headers.items():
        if name in _NAMED:
            context[name.removeprefix("x-cascade-")] = value
        elif name.startswith(_CONTEXT) and len(name) > len(_CONTEXT):
            context[name.removeprefix(_CONTEXT)] = value
    if len(context) > 32 or any(len(value) > 256 for value in context.values()):
        raise InvalidInput("headers", "at most 32 of x-cascade-* are taken, of 256 characters each")
    if caller.tenant is not None:
        context["tenant"] = caller.tenant
    return {name: value for name, value in context.items() if value}
