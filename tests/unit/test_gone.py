"""What is told when a caller leaves, and that a call which was answered is let go of."""

import gc
import weakref
from collections.abc import Callable

from cascade.server.gone import Gone


class Context:
    """As much of gRPC's context as is asked for."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], object]] = []

    def add_callback(self, callback: Callable[[], object]) -> bool:
        self.callbacks.append(callback)
        return True


def test_a_call_that_was_answered_is_held_by_nobody_who_keeps_its_question() -> None:
    context = Context()
    held = weakref.ref(context)
    told: list[str] = []
    with Gone(context) as gone:
        gone.tell(lambda: told.append("left"))
    context.callbacks.clear()  # as gRPC does at the end of a call
    del context
    gc.collect()
    assert held() is None
    gone.fire()
    assert told == []


def test_while_the_call_runs_its_end_is_told_once_and_to_late_comers_at_once() -> None:
    context, told = Context(), []
    with Gone(context) as gone:
        gone.tell(lambda: told.append("early"))
        [end] = context.callbacks
        end()
        gone.tell(lambda: told.append("late"))
        assert told == ["early", "late"]
        assert gone.fired
