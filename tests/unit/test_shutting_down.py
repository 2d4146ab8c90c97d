"""What a call is told that comes while the server ends."""

from __future__ import annotations

import pytest

from cascade.errors import ShuttingDown, TeacherUnavailable
from cascade.gateway.replies import error_reply
from cascade.server.entrance import submit
from cascade.server.pool import ElasticPool


def test_work_that_comes_after_the_end_is_refused_and_worth_another_try() -> None:
    pool = ElasticPool(1)
    pool.shutdown(wait=True)
    with pytest.raises(ShuttingDown) as refused:
        submit(pool, print)
    error = refused.value
    assert isinstance(error, TeacherUnavailable)
    assert (error.code, error.reason, error.retry_after) == ("UNAVAILABLE", "TEACHER_UNAVAILABLE", 1.0)


def test_over_http_it_is_503_since_nothing_is_wrong_upstream() -> None:
    reply = error_reply(ShuttingDown())
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert error_reply(TeacherUnavailable("the frontier is down")).status_code == 502
