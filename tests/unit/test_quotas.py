"""What tenants may ask and spend, shared by processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cascade.config.security import TenantConfig
from cascade.server import quotas as quotas_module
from cascade.server.quotas import QuotaExceeded, Quotas

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
        "with q._slot('acme'): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    began = time.monotonic()
    Quotas({"acme": TenantConfig(usd_per_day=1.0)}, path).spend("acme", 0.5)
    assert time.monotonic() - began < 60
    assert os.path.exists(path)
