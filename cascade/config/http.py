"""The `http` section: the OpenAI-compatible side, the page and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, Strict

from cascade.config import values
from cascade.config.section import Section


class HttpConfig(Section):
    """`http`: where the HTTP side listens and where it sends what it does not answer itself.

    Attributes
    ----------
    listen : str
        `host:port`, port 0 for any free one.
    upstream : str, optional
        The chat rung whose server takes the calls that belong to no node; by default the only chat rung.
    hosts : list of str
        Names under which browsers may open the page, besides those of this machine.
    timeout_seconds : float
        How long the upstream may be silent.
    max_body_bytes : int
        The largest request that is taken.
    max_in_flight : int
        Calls under way at once in a worker; further ones get 503 at once. Their bodies together may be
        sixteen times `max_body_bytes`.
    capture : bool
        Whether calls are logged for discovery.
    """

    listen: values.HttpListen = "127.0.0.1:8080"
    upstream: values.Name | None = None
    hosts: Annotated[tuple[values.Text, ...], Strict(False)] = ()
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 600.0
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 16 * 2**20
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    capture: bool = True


def upstream_problem(upstream: str | None, chats: Sequence[str]) -> str | None:
    """Say what is wrong with `http.upstream`, given the chat rungs; None where it can be used."""
    known = ", ".join(chats) or "none"
    if upstream is None:
        if len(chats) == 1:
            return None
        return (
            f"http.upstream: name the chat rung that takes the calls of no node; the chat rungs are: {known}"
        )
    return None if upstream in chats else f"http.upstream: {upstream!r} is no chat rung; they are: {known}"
