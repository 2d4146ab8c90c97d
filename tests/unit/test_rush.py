"""Memory is given back once after a rush of calls, not while it lasts and not without one."""

from cascade.server.rush import Rush


def test_memory_is_given_back_once_when_a_rush_is_over() -> None:
    moment = {"now": 0.0, "waiting": 0}
    given_back: list[float] = []
    rush = Rush(
        lambda: int(moment["waiting"]),
        many=100,
        calm_seconds=5.0,
        give_back=lambda: given_back.append(moment["now"]),
        clock=lambda: moment["now"],
    )

    def look(*at: tuple[float, int]) -> list[float]:
        for now, waiting in at:
            moment.update(now=now, waiting=waiting)
            rush.look()
        return given_back

    assert look((0, 99), (10, 99)) == [], "there was no rush"
    assert look((20, 100), (24, 10), (24.5, 300), (29, 10)) == [], "it came back"
    assert look((29.5, 10), (40, 10)) == [29.5]
    assert look((50, 100), (55, 0)) == [29.5, 55]
