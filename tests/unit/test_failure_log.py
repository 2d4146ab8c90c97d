"""Failures in the log: each kind at once, then with how many were held back."""

from __future__ import annotations

import logging

import pytest

from cascade.rungs.failure_log import FailureLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_kind_is_said_at_once_and_then_once_in_a_while_with_what_was_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    log = FailureLog(every=30, clock=clock)
    for second in range(61):
        clock.now = second
        log.say(f"HTTP 500; try {second}", "HTTP 500")
        if second == 5:
            log.say("HTTP 401")
    assert [record.getMessage() for record in caplog.records] == [
        "HTTP 500; try 0", "HTTP 401",
        "HTTP 500; try 30 (29 more like it in the last 30 s)",
        "HTTP 500; try 60 (29 more like it in the last 30 s)",
    ]  # fmt: skip
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_who_fails_in_another_way_each_time_fills_neither_log_nor_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    log = FailureLog(every=30, most=4, clock=clock)
    for number in range(1000):
        log.say(f"code {number}")
    assert len(caplog.records) == 5
    assert len(log._lines) == 5
    clock.now = 31
    log.say("code 2000")
    assert caplog.records[-1].getMessage() == "code 2000"
    log.say("100 % of %s")  # nothing of it is a format
    assert caplog.records[-1].getMessage() == "100 % of %s"
