"""What keeps the page's figures and buttons to those whom they are for."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request

from cascade.errors import PermissionDenied

CSRF = "cascade_csrf"
CSRF_HEADER = "x-cascade-csrf"


class Hosts:
    """The names under which browsers may open the page.

    A page of somebody else can make its own name point here (DNS rebinding), and is then of the same origin
    to the browser. It cannot do so with an address, nor with `localhost`.

    Parameters
    ----------
    names : sequence of str
        More names, from `http.hosts`.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def check(self, request: Request) -> None:
        """Raise PermissionDenied where the request names another host."""
        named = request.headers.get("host", "")
        try:
            host = (urlsplit(f"//{named}").hostname or "").lower()
        except ValueError:
            raise PermissionDenied(f"{named[:80]!r} is no name of a host") from None
        if host in self._names:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise PermissionDenied(
                f"the page is not opened under the name {host[:80]!r}; add it to http.hosts"
            ) from None


def new_token() -> str:
    """Give a token for a browser's cookie."""
    return secrets.token_urlsafe(32)


def check_same_site(request: Request) -> None:
    """Check that a change comes from our own page: its cookie is repeated in a header, no other site asks.

    Raises
    ------
    PermissionDenied
    """
    cookie, header = request.cookies.get(CSRF, ""), request.headers.get(CSRF_HEADER, "")
    if not cookie or not secrets.compare_digest(cookie.encode(), header.encode()):
        raise PermissionDenied("the change does not come from this page; load it again")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise PermissionDenied("the change comes from another site")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise PermissionDenied("the change comes from another site")
