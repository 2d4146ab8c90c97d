"""What tenants may ask and spend, shared by processes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.config.security import TenantConfig
from cascade.server import quotas as quotas_module
from cascade.server.lease import AHEAD_SECONDS, AHEAD_SHARE, QuotaExceeded
from cascade.server.quotas import Quotas
from tests.soon import comes

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
