"""Slots of `tenants.state`: whose they are, and when they become another's."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cascade.config.security import TenantConfig
from cascade.server import quotas as quotas_module
from cascade.server import tenant_file
from cascade.server.lease import QuotaExceeded
from cascade.server.quotas import Quotas
from cascade.server.tenant_file import Held, TenantFile
from tests.soon import comes


def allowed(quotas: Quotas, tenant: str, n: int = 1) -> bool:
    try:
        quotas.take(tenant, n)
    except QuotaExceeded:
        return False
    return True


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A file with seven slots of tenants' own, and the time."""
    now = [86_400 * 20_000 + 100.0]
    monkeypatch.setattr(quotas_module.time, "time", lambda: now[0])
    monkeypatch.setattr(tenant_file, "_SLOTS", 8)
    return now


def test_a_slot_of_who_asks_no_more_becomes_anothers(tmp_path: Path, few: list[float]) -> None:
    quotas = Quotas({"default": TenantConfig(requests_per_second=0.1, burst=2)}, tmp_path / "state")
    for hour in range(4):
        for n in range(7):
            assert allowed(quotas, f"{hour}-{n}", 2), "each has a burst of its own"
            assert not allowed(quotas, f"{hour}-{n}")
        few[0] += 20.0
    quotas.close()


def test_where_all_slots_are_in_use_newcomers_share_one_and_take_nothing_from_those_who_have_one(
    tmp_path: Path, few: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    tenants = {
        "acme": TenantConfig(requests_per_second=0.1, burst=2, usd_per_day=1.0),
        "default": TenantConfig(requests_per_second=0.1, burst=2, usd_per_day=1.0),
    }
    quotas = Quotas(tenants, tmp_path / "state")
    invented = [f"n{n}" for n in range(100)]
    taken = [tenant for tenant in invented if allowed(quotas, tenant)]
    assert taken == invented[:8], "six slots of their own, two decisions of the shared one"
    assert "further ones share one limit" in caplog.text
    assert allowed(quotas, invented[0])
    assert allowed(quotas, "acme", 2), "who is named has a slot of its own from the beginning"
    for tenant in invented:
        quotas.spend(tenant, 0.5)
    assert comes(lambda: not any(lease.unpaid for lease in quotas._leases.values()))
    assert [quotas.spent(tenant) for tenant in ("acme", *invented[:6])] == [0.0] + 6 * [0.5]
    assert quotas.spent(invented[6]) == 0.5 * 94
    few[0] += 86_400.0
    assert [tenant for tenant in invented[50:56] if allowed(quotas, tenant, 2)] == invented[50:56]
    quotas.close()


def test_what_was_spent_today_keeps_a_slot_until_tomorrow(tmp_path: Path, few: list[float]) -> None:
    tenants = {"default": TenantConfig(usd_per_day=1.0)}
    quotas = Quotas(tenants, tmp_path / "state")
    quotas.spend("first", 1.0)
    quotas.close()
    again = Quotas(tenants, tmp_path / "state")
    for n in range(100):
        again.spend(f"n{n}", 0.01)
    assert comes(lambda: not any(lease.unpaid for lease in again._leases.values()))
    with pytest.raises(QuotaExceeded):
        again.check_spending("first")
    again.close()


def test_a_slot_that_became_anothers_is_not_written_by_who_had_it(tmp_path: Path, few: list[float]) -> None:
    here, there = (TenantFile(tmp_path / "state") for _ in range(2))
    with here.change("was here") as slot:
        slot.tokens, slot.since = 1.0, few[0] - 1
    for n in range(7):
        with there.change(f"n{n}") as slot:
            slot.usd, slot.day = 1.0 + n, few[0] // 86_400
    assert here.read("was here").usd == 0.0, "it finds the shared one"
    with here.change("was here") as slot:
        slot.usd, slot.day = 100.0, few[0] // 86_400
    assert [there.read(f"n{n}").usd for n in range(7)] == [1.0 + n for n in range(7)]
    for file in (here, there):
        file.close()


def test_a_slot_that_becomes_anothers_in_the_moment_before_it_is_locked_is_left_alone(
    tmp_path: Path, few: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (TenantFile(tmp_path / "state") for _ in range(2))
    with here.change("was here"):
        pass
    locked = here._locked

    def a_moment_late(at: int, size: int) -> AbstractContextManager[None]:
        for n in range(7):
            with there.change(f"n{n}") as slot:
                slot.usd, slot.day = 1.0, few[0] // 86_400
        return locked(at, size)

    monkeypatch.setattr(here, "_locked", a_moment_late)
    with pytest.raises(Held), here.change("was here") as slot:
        slot.usd = 100.0
    assert [there.read(f"n{n}").usd for n in range(7)] == 7 * [1.0]
    for file in (here, there):
        file.close()


def test_a_slot_that_another_process_is_changing_is_not_taken_from_it(
    tmp_path: Path, few: list[float], hold: Callable[..., subprocess.Popen[str]]
) -> None:
    file = TenantFile(tmp_path / "state")
    for n in range(7):  # idle at once: nothing is written into them
        with file.change(f"n{n}"):
            pass
    whose = file._table[:]
    holding = hold(7 * 64)
    with pytest.raises(Held), file.change("acme"):
        pass
    assert file._table[:] == whose
    holding.kill()
    holding.wait()
    with file.change("acme"):
        pass
    assert file._table[:] != whose
    file.close()


def test_a_slot_whose_tenant_comes_back_in_the_moment_before_it_is_taken_stays_its_own(
    tmp_path: Path, few: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (TenantFile(tmp_path / "state") for _ in range(2))
    for n in range(7):  # idle at once
        with there.change(f"n{n}"):
            pass
    locked, back = here._locked, [f"n{n}" for n in range(7)]

    def a_moment_late(at: int, size: int) -> AbstractContextManager[None]:
        while back and size == 64:  # a slot's, not the table's
            with there.change(back.pop()) as slot:
                slot.usd, slot.day = 1.0, few[0] // 86_400
        return locked(at, size)

    monkeypatch.setattr(here, "_locked", a_moment_late)
    with pytest.raises(Held), here.change("acme"):
        pass
    assert [there.read(f"n{n}").usd for n in range(7)] == 7 * [1.0]
    for file in (here, there):
        file.close()


def test_nobody_is_given_a_slot_while_another_process_gives_one(
    tmp_path: Path, few: list[float], hold: Callable[..., subprocess.Popen[str]]
) -> None:
    """Two that look at once may see different slots as free, and a tenant would have two."""
    file = TenantFile(tmp_path / "state")
    with file.change("known"):
        pass
    hold(1, start=8 * 64)
    with pytest.raises(Held), file.change("new"):
        pass
    with file.change("known"):
        pass
    file.close()
