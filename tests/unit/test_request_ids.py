"""Request ids: one decides, the others follow; and one of them decides where that one could not."""

import time
from dataclasses import replace
from typing import Any

import pytest

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, DeadlineExceeded, TeacherUnavailable
from cascade.server.gone import CallerGone, Gone
from cascade.server.request_ids import Claim, Follower, RequestIds

ASK = Ask("intent", "hello", request_id="r", deadline=time.monotonic() + 60)
LONGER = replace(ASK, deadline=time.monotonic() + 120)


class NothingKept:
    def find(self, *_: Any) -> None:
        return None


class Listening:
    """A follower that writes down what it hears."""

    def __init__(self, ask: Ask) -> None:
        self.told: list[Decided | CascadeError] = []
        self.leads: list[Claim] = []
        self.follower = Follower(ask, self.told.append, self.leads.append)


@pytest.fixture
def ids() -> RequestIds:
    return RequestIds(NothingKept())  # type: ignore[arg-type]


def claimed(ids: RequestIds) -> Claim:
    _, mine, other = ids.claim(ASK)
    assert mine is not None
    assert other is None
    return mine


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("failure", "ask", "leads"),
    [
        (CallerGone(), ASK, True),
        (CallerGone(), LONGER, True),
        (DeadlineExceeded("frontier"), ASK, False),
        (DeadlineExceeded("frontier"), LONGER, True),
        (DeadlineExceeded("frontier"), replace(ASK, deadline=None), True),
        (TeacherUnavailable("down"), LONGER, False),
    ],
)
def test_who_follows_decides_where_the_other_failed_for_its_own_sake(
    ids: RequestIds, failure: CascadeError, ask: Ask, leads: bool, late: bool
) -> None:
    mine, listening = claimed(ids), Listening(ask)
    if late:  # it had found the claim before, and comes to it when that is over
        ids.release(mine, failure)
    ids.follow(mine, listening.follower)
    if not late:
        ids.release(mine, failure)
    assert (len(listening.leads), listening.told) == (int(leads), [] if leads else [failure])
    _, free, held = ids.claim(ASK)
    assert (held is not None) == leads
    if leads:
        ids.release(listening.leads[0], TeacherUnavailable("down"))
    else:
        assert free is not None


def test_who_left_meanwhile_does_not_decide(ids: RequestIds) -> None:
    gone = Gone()
    mine, left, stays = claimed(ids), Listening(replace(LONGER, gone=gone)), Listening(ASK)
    for each in (left, stays):
        ids.follow(mine, each.follower)
    gone.fire()
    ids.release(mine, CallerGone())
    assert (len(left.told), left.leads, stays.told, len(stays.leads)) == (1, [], [], 1)


def test_who_comes_late_to_a_claim_that_is_over_follows_the_next_one(ids: RequestIds) -> None:
    over, listening = claimed(ids), Listening(ASK)
    ids.release(over, CallerGone())
    following = claimed(ids)
    ids.follow(over, listening.follower)
    assert (listening.told, listening.leads) == ([], [])
    down = TeacherUnavailable("down")
    ids.release(following, down)
    assert listening.told == [down]


def test_of_many_who_follow_the_one_with_most_time_decides_and_the_others_follow_it(ids: RequestIds) -> None:
    mine, now = claimed(ids), time.monotonic()
    followers = [Listening(replace(ASK, deadline=now + seconds)) for seconds in (100, 300, 200)]
    for each in followers:
        ids.follow(mine, each.follower)
    ids.release(mine, DeadlineExceeded("frontier"))
    assert [len(each.leads) for each in followers] == [0, 1, 0]
    assert [each.told for each in followers] == [[], [], []]
    late = DeadlineExceeded("frontier")
    ids.release(followers[1].leads[0], late)  # of more time than all who follow
    assert [len(each.leads) for each in followers] == [0, 1, 0]
    assert [each.told for each in followers] == [[late], [], [late]]
    assert claimed(ids) is not mine
