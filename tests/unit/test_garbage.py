"""The collector looks seldom while a process serves, and as usual afterwards."""

import gc

from cascade.garbage import COLLECT_AFTER, begin_serving, end_serving


def test_the_collector_is_as_it_was_once_serving_has_ended() -> None:
    before = gc.get_threshold()
    begin_serving()
    try:
        assert gc.get_threshold() == (COLLECT_AFTER, *before[1:])
        assert gc.get_freeze_count()
    finally:
        end_serving()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()
