"""What tenants may ask and spend, shared by processes."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cascade.config.security import TenantConfig
from cascade.server import quotas as quotas_module
from cascade.server import tenant_file
from cascade.server.lease import AHEAD_SECONDS, AHEAD_SHARE, QuotaExceeded
from cascade.server.quotas import Quotas
from cascade.server.tenant_file import Held, TenantFile

TENANTS = {
    "acme": TenantConfig(requests_per_second=10.0, burst=5, usd_per_day=1.0),
    "default": TenantConfig(requests_per_second=1.0),
}


def test_a_tenant_may_ask_its_burst_and_then_at_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(quotas_module.time, "time", lambda: now)
    quotas = Quotas(TENANTS, tmp_path / "state")
    quotas.take("acme", 5)
    with pytest.raises(QuotaExceeded) as refused:
        quotas.take("acme")
    assert refused.value.retry_after == pytest.approx(0.1)
    now += 0.1
    quotas.take("acme")
    quotas.take("somebody else")  # under `default`, on its own
    with pytest.raises(QuotaExceeded):
        quotas.take("somebody else")
    with pytest.raises(QuotaExceeded, match="more than this tenant may ever ask"):
        quotas.take("acme", 6)


def test_a_clock_that_is_set_back_keeps_nobody_out_until_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(quotas_module.time, "time", lambda: now)
    quotas = Quotas(TENANTS, tmp_path / "state")
    quotas.take("acme", 5)
    now -= 3600
    with pytest.raises(QuotaExceeded) as refused:
        quotas.take("acme")
    assert refused.value.retry_after == pytest.approx(0.1)
    now += 0.1
    quotas.take("acme")
    with pytest.raises(QuotaExceeded):
        quotas.take("acme")
    quotas.close()


def test_spending_is_limited_by_the_day_and_survives_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 86_400 * 20_000 + 100.0
    monkeypatch.setattr(quotas_module.time, "time", lambda: now)
    first = Quotas(TENANTS, tmp_path / "state")
    first.spend("acme", 0.75)
    first.check_spending("acme")
    first.close()
    again = Quotas(TENANTS, tmp_path / "state")
    again.spend("acme", 0.25)
    with pytest.raises(QuotaExceeded, match="for today") as refused:
        again.check_spending("acme")
    assert refused.value.retry_after == pytest.approx(86_300)
    again.check_spending("without a limit")
    now += 86_400
    again.check_spending("acme")


def test_processes_count_together(tmp_path: Path) -> None:
    path = tmp_path / "state"
    code = (
        "import sys; from pathlib import Path; from cascade.config.security import TenantConfig\n"
        "from cascade.server.quotas import Quotas\n"
        "q = Quotas({'acme': TenantConfig(usd_per_day=1e9)}, Path(sys.argv[1]))\n"
        "for _ in range(2000): q.spend('acme', 1.0)\n"
        "q.close()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert Quotas({}, path).spent("acme") == 6000


def test_without_a_usable_file_the_limits_hold_for_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    quotas = Quotas(TENANTS, tmp_path / "file" / "state")
    assert "hold for each worker apart" in caplog.text
    quotas.take("acme", 5)
    with pytest.raises(QuotaExceeded):
        quotas.take("acme", 5)


def test_a_killed_holder_does_not_keep_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "state"
    code = (
        "import sys, os, signal; from pathlib import Path; from cascade.config.security import TenantConfig\n"
        "from cascade.server.quotas import Quotas\n"
        "q = Quotas({'acme': TenantConfig(usd_per_day=1.0)}, Path(sys.argv[1]))\n"
        "with q._file.change('acme'): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    left = Quotas({"acme": TenantConfig(usd_per_day=1.0)}, path)
    left.spend("acme", 0.5)
    left.close()
    assert Quotas({}, path).spent("acme") == 0.5


WORKER = """
import sys, time
from pathlib import Path
from cascade.config.security import TenantConfig
from cascade.server.lease import QuotaExceeded
from cascade.server.quotas import Quotas

quotas = Quotas({"acme": TenantConfig(requests_per_second=400, burst=320)}, Path(sys.argv[1]))
print("ready", flush=True)
start, taken = float(sys.stdin.readline()), 0
time.sleep(max(0.0, start - time.time()))
while time.time() < start + 2.0:
    try:
        quotas.take("acme")
        taken += 1
    except QuotaExceeded as error:
        time.sleep(min(0.002, error.retry_after))
quotas.close()
print(taken, flush=True)
"""


def test_workers_together_let_a_tenant_have_its_burst_and_rate_and_no_more_than_they_hold_in_hand(
    tmp_path: Path,
) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "state")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    start = time.time() + 0.3
    for worker in workers:
        worker.stdin.write(f"{start}\n")
        worker.stdin.flush()
    taken = sum(int(worker.communicate(timeout=60)[0]) for worker in workers)
    took = time.time() - start
    in_hand = min(320 * AHEAD_SHARE, 400 * AHEAD_SECONDS)
    assert taken <= 320 + 400 * took + 3 * in_hand
    assert taken >= 0.85 * (320 + 400 * 2.0), "nor much less, although some hold what others need"


def test_what_a_worker_took_ahead_and_does_not_need_is_another_workers_soon(tmp_path: Path) -> None:
    tenants = {"acme": TenantConfig(requests_per_second=20.0, burst=320)}
    idle, busy = (Quotas(tenants, tmp_path / "state") for _ in range(2))
    idle.take("acme")
    assert comes(lambda: idle._leases["acme"].in_hand == 1.0)
    assert idle._file.read("acme").tokens == pytest.approx(318.0, abs=1.0)
    assert comes(lambda: not idle._leases)
    busy.take("acme", 320)  # which by then is full again
    for quotas in (idle, busy):
        quotas.close()


def comes(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Have another process hold locks on the whole file, or some of its bytes, as one that hangs does."""
    made: list[subprocess.Popen[str]] = []

    def begin(size: int = 0, start: int = 0) -> subprocess.Popen[str]:
        code = (
            "import fcntl, sys, time; file = open(sys.argv[1], 'r+b')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX, int(sys.argv[2]), int(sys.argv[3]))\n"
            "print('held', flush=True); time.sleep(600)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "state"), str(size), str(start)]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout.readline() == "held\n"
        return made[-1]

    yield begin
    for each in made:
        each.kill()
        each.wait()


def test_where_another_worker_hangs_with_a_lock_the_limits_hold_for_this_one_and_then_together_again(
    tmp_path: Path, hold: Callable[[], subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    quotas = Quotas(TENANTS | {"slow": TenantConfig(requests_per_second=0.001, burst=3)}, tmp_path / "state")
    quotas.take("slow")
    hung = hold()
    began = time.monotonic()
    counted = quotas.begin_take("slow")
    assert time.monotonic() - began < 1.0
    assert counted is not None
    counted.result(30)
    assert "hold for each worker apart: another process holds" in caplog.text
    quotas.take("slow")
    for _ in range(5):
        with pytest.raises(QuotaExceeded):
            quotas.take("slow")
    quotas.take("new here", 1)
    quotas.spend("acme", 0.75)
    assert quotas.spent("acme") == 0.75
    hung.kill()
    assert comes(lambda: "together again" in caplog.text)
    assert comes(lambda: Quotas({}, tmp_path / "state").spent("acme") == 0.75)
    quotas.close()


def test_a_call_whose_caller_left_while_it_waited_is_not_counted(
    tmp_path: Path, hold: Callable[[], subprocess.Popen[str]]
) -> None:
    quotas = Quotas(TENANTS, tmp_path / "state")
    quotas.take("acme", 1)
    hung = hold()
    left = [quotas.begin_take("acme") for _ in range(4)]
    assert all(each is not None and each.cancel() for each in left)
    hung.kill()
    hung.wait()
    quotas.take("acme", 4)
    quotas.close()


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
