"""How far a stream from the frontier is read before the agent takes it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.gateway.relay import _AHEAD, Relay

N = 3 * _AHEAD


class Relaying:
    """A relay whose frontier says that much, and how far it was read."""

    def __init__(self, **given: Any) -> None:
        upstream: Any = SimpleNamespace(name="frontier", key="")
        self.relay = Relay(upstream, {}, {}, **given)
        self.read = 0

    async def run(self) -> None:
        for n in range(N):
            await self.relay._take(b"data: %d\n\n" % n, False)
            self.read += 1
        self.relay._events.put_nowait(None)


@pytest.mark.parametrize(("whole", "taught"), [(False, True), (False, False), (True, False), (True, True)])
def test_a_stream_is_read_ahead_as_far_as_there_is_room_and_whole_where_nothing_is_given_before(
    whole: bool, taught: bool
) -> None:
    async def main() -> None:
        made = Relaying(whole=whole)
        made.relay.taught = taught
        running = asyncio.create_task(made.run())
        for _ in range(N):
            await asyncio.sleep(0)
        assert made.read == (N if whole else _AHEAD - 1)
        taken = []
        async for event in made.relay.events():
            taken.append(event)
            await asyncio.sleep(0)
        await running
        assert taken == [b"data: %d\n\n" % n for n in range(N)]

    asyncio.run(asyncio.wait_for(main(), 20))
