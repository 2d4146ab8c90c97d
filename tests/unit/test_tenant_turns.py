"""Whose turn it is, whatever is put in, taken and thrown out in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cascade.server.tenant_turns import TenantTurns

STEPS = st.lists(
    st.one_of(st.sampled_from("abc"), st.just("take"), st.integers(min_value=0, max_value=40)), max_size=60
)


@given(STEPS)
def test_nothing_is_lost_and_nobody_is_passed_over(steps: list[str | int]) -> None:
    queue = TenantTurns[str]()
    inside: dict[int, str] = {}
    put = 0
    turns_since: dict[str, set[str]] = {}  # of each tenant that waits: who had a turn since it had or came
    for step in [*steps, *["take"] * 60]:
        if isinstance(step, int):
            assert queue.discard(step) == (step in inside)
            inside.pop(step, None)
        elif step == "take":
            if not inside:
                continue
            key, tenant = queue.take()
            assert tenant == inside.pop(key)
            assert not any(other < key for other, of in inside.items() if of == tenant), "its own order"
            for waits in set(inside.values()) - {tenant}:
                seen = turns_since.setdefault(waits, set())
                assert tenant not in seen, f"{tenant} had two turns while {waits} waited"
                seen.add(tenant)
            turns_since[tenant] = set()
        else:
            inside[put] = step
            queue.put(put, step, step)
            put += 1
        turns_since = {t: seen for t, seen in turns_since.items() if t in inside.values()}
        assert len(queue) == len(inside)
        assert sorted(queue) == sorted(inside.values())
        assert queue.tenants == len(set(inside.values()))
        assert all(queue.of(t) == list(inside.values()).count(t) for t in "abc")
    queue.clear()
    assert len(queue) == queue.tenants == 0
