"""An alarm that lasts: raised, and raised again by what alone came later.

A burst raises an alarm: an encoder that could not allocate for a second fails every request of that second.
A second test begins `APART` seconds after the first was raised, knows nothing of what was before, and has to
come to the same by itself. So a burst that is shorter never lasts; and while the chance of each request is at
most the ceiling, an alarm that lasts is no more likely than one that is raised: at most `alpha`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade.policy.alarms import AlarmSettings, AlarmState, count, new_alarm

APART = 60.0
"""Seconds between an alarm and the test whether it goes on."""


@dataclass(frozen=True)
class Lasting:
    """What is known of one alarm of a bundle.

    Attributes
    ----------
    settings : AlarmSettings
    first : AlarmState
        The alarm.
    again : AlarmState, optional
        The test whether it goes on; None while it has not begun.
    since : float
        When the alarm was raised, in seconds of any clock; of no meaning while it is not.
    """

    settings: AlarmSettings
    first: AlarmState
    again: AlarmState | None = None
    since: float = 0.0

    @staticmethod
    def of(settings: AlarmSettings) -> Lasting:
        """Give the state before any request."""
        return Lasting(settings, new_alarm(settings))

    @property
    def lasts(self) -> bool:
        """Whether it is raised, and was raised again by what came `APART` seconds later."""
        return self.first.raised and self.again is not None and self.again.raised

    def take(self, seq: int, n: int, hits: Sequence[int], now: float) -> Lasting:
        """Take a batch of requests, as `cascade.policy.alarms.count` does, that was closed at a time."""
        first = count(self.settings, self.first, seq, n, hits)
        if not first.raised:
            return replace(self, first=first, again=None)
        if not self.first.raised:
            return replace(self, first=first, again=None, since=now)
        again = self.again
        if now - self.since >= APART:
            again = count(self.settings, again or new_alarm(self.settings), seq, n, hits)
        return replace(self, first=first, again=again)
