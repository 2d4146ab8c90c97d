"""`cascade serve --workers`: real processes, real signals, the shipped bundle and the simulated frontier."""

import asyncio
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.memory_growth import proportional
from cascade.client import AsyncClient, Client, DecisionError
from cascade.garbage import COLLECT_AFTER
from cascade.pointer import POINTER
from tests.conftest import NODE
from tests.service.worker_processes import LONG, Service, load
from tests.soon import comes


def test_workers_share_port_and_memory_and_all_of_them_drain_at_sigterm(
    serve: Callable[[int], Service], unseen: list[dict[str, Any]]
) -> None:
    service = serve(2)
    assert service.facts["workers"] == 2
    assert len(service.workers()) == 2
    own = []
    for pid in service.workers():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup if line.endswith("kB")}
        own.append((sizes["Private_Clean"] + sizes["Private_Dirty"]) / sizes["Rss"])
    assert max(own) < 0.4
    with load(service.target, [r["text"] for r in unseen]) as seen:
        time.sleep(1.0)
    assert seen
    assert not [s for s in seen if isinstance(s, DecisionError)]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LONG) == 0


def test_files_of_metrics_that_dead_workers_leave_do_not_add_up(
    serve: Callable[[int], Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    service = serve(2)
    (folder,) = temporary.glob("cascade-metrics-*")

    def only_the_living_and_one_sum() -> bool:  # a new worker makes its files one after the other
        living = {str(pid) for pid in service.workers()}
        counters, gauges = (
            {path.stem.rpartition("_")[2] for path in folder.glob(f"{kind}_*.db")}
            for kind in ("counter", "gauge_livesum")
        )
        return len(living) == 2 and gauges == living and counters == {*living, "ended"}

    for round_ in (1, 2):
        killed = min(service.workers())
        assert (folder / f"counter_{killed}.db").exists()
        os.kill(killed, signal.SIGKILL)
        service.wait_for_log("ended by SIGKILL; it is started again", round_)
        assert comes(only_the_living_and_one_sum), sorted(folder.iterdir())
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LONG) == 0
    assert list(temporary.glob("cascade-metrics-*")) == []


def test_a_process_that_was_stopped_heeds_the_signal_that_came_meanwhile(
    serve: Callable[[int], Service],
) -> None:
    for _ in range(3):  # the kernel picks the thread
        service = serve(1)
        for sent in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
            service.process.send_signal(sent)
        assert service.process.wait(LONG) == 0


def test_a_killed_worker_is_replaced_and_the_service_goes_on(
    serve: Callable[[int], Service], unseen: list[dict[str, Any]]
) -> None:
    service = serve(2)
    before = service.workers()
    os.kill(min(before), signal.SIGKILL)
    service.wait_for_log("ended by SIGKILL; it is started again")
    assert comes(lambda: len(service.workers()) >= 2)
    assert max(before) in service.workers()
    with load(service.target, [r["text"] for r in unseen]) as seen:
        time.sleep(1.0)
    assert not [s for s in seen if isinstance(s, DecisionError)]


def test_sighup_serves_a_new_configuration_under_load_and_refuses_a_bad_one(
    serve: Callable[[int], Service], document: dict[str, Any], unseen: list[dict[str, Any]]
) -> None:
    service = serve(2)
    with load(service.target, [r["text"] for r in unseen]) as seen:
        service.write(document | {"nodse": {}})
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log("the new configuration is refused, the old one keeps serving")
        assert "unknown key; did you mean 'nodes'" in service.log.read_text()
        service.write(document | {"nodes": document["nodes"] | {"another": document["nodes"][NODE]}})
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log("the new configuration is served by 2 workers")
        time.sleep(1.0)
    assert not [s for s in seen if isinstance(s, DecisionError)]
    with Client(service.target, timeout=LONG) as client:
        assert client.decide(node="another", text=unseen[0]["text"]).rung == "frontier"


def test_a_reload_that_finds_no_models_any_more_says_so(
    serve: Callable[[int], Service], document: dict[str, Any], models: Path
) -> None:
    service = serve(2)
    shutil.move(models, models.with_name("away"))
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_log("the new configuration is served by 2 workers")
    assert (
        f"ERROR cascade.server.preload[{service.process.pid}]: node {NODE}: it had a bundle, and there is no "
        in service.log.read_text()
    )


def test_hundreds_of_calls_of_one_client_survive_the_drain_of_the_worker_they_are_with(
    serve: Callable[[int], Service], document: dict[str, Any], unseen: list[dict[str, Any]]
) -> None:
    service = serve(2)
    answered: list[str] = []
    over = threading.Event()

    async def ask(client: AsyncClient, text: str) -> None:
        while not over.is_set():
            answered.append((await client.decide(node=NODE, text=text)).rung)

    async def ask_together() -> None:
        async with AsyncClient(service.target, timeout=LONG) as client:
            await asyncio.gather(*(ask(client, record["text"]) for record in (unseen * 300)[:300]))

    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(asyncio.run, ask_together())
        try:
            assert comes(lambda: len(answered) > 600 or asking.done())
            service.write(document | {"nodes": document["nodes"] | {"another": document["nodes"][NODE]}})
            service.process.send_signal(signal.SIGHUP)
            service.wait_for_log("the new configuration is served by 2 workers")
            before = len(answered)
            assert comes(lambda: len(answered) > before + 600 or asking.done())
        finally:
            over.set()
        asking.result(LONG)


def test_a_new_bundle_is_served_by_all_workers_under_load_without_an_error(
    serve: Callable[[int], Service], models: Path, shipped: Path, unseen: list[dict[str, Any]]
) -> None:
    service = serve(2)
    newer = "0099-" + shipped.name.split("-")[1]
    shutil.copytree(shipped, models / NODE / newer)
    manifest = models / NODE / newer / "manifest.json"
    manifest.write_text(manifest.read_text().replace(shipped.name, newer))
    with load(service.target, [r["text"] for r in unseen]) as seen:
        (models / NODE / POINTER).write_text(newer + "\n")
        service.wait_for_log(f"serving bundle {newer}", count=2)
        time.sleep(1.0)
    assert not [s for s in seen if isinstance(s, DecisionError)]
    assert seen[-1].bundle_version == newer


def test_reloading_again_and_again_adds_next_to_nothing_to_the_memory_of_parent_and_workers(
    serve: Callable[[int], Service],
) -> None:
    service = serve(2)

    def own() -> float:
        # What files stand behind is left out: how much of it counts depends on what else runs here.
        processes = (service.process.pid, *service.workers())
        return sum(proportional(pid)["Pss_Anon"] for pid in processes) / 1024

    before = own()
    for n in range(1, 4):
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log("the new configuration is served by 2 workers", count=n)
        assert comes(lambda: len(service.workers()) <= 2)
    # One generation's encoder and bundle are some 50 MB. An old one that is kept shows at once, in the parent
    # or in both workers; what remains is pages that are no longer shared.
    assert own() - before < 50


def test_what_a_process_has_when_it_serves_is_not_looked_through_by_the_collector(
    document: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "cascade.yaml").write_text(json.dumps(document))
    script = """
import gc, os, sys
from pathlib import Path
from cascade.config import load_config
from cascade.server.run import serve

def told(facts):
    print(len(gc.get_objects()), gc.get_freeze_count(), gc.get_threshold()[0], flush=True)
    os._exit(0)

serve(load_config(Path(sys.argv[1])), "127.0.0.1:0", 1, told)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "cascade.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    looked_through, left_out, seldom = map(int, done.stdout.split())
    assert looked_through < 0.05 * left_out
    assert seldom == COLLECT_AFTER > gc.get_threshold()[0]


def test_what_a_worker_has_taken_ahead_for_a_tenant_is_given_back_when_it_ends(
    document: dict[str, Any], tmp_path: Path
) -> None:
    most = 1_000_000
    limits = {"tenants": {"acme": {"requests_per_second": 1000, "burst": most}}}
    (tmp_path / "cascade.yaml").write_text(json.dumps(document | limits))
    script = """
import os, signal, sys
from pathlib import Path
from cascade.client import AsyncClient, Client, DecisionError
from cascade.garbage import COLLECT_AFTER
from cascade.config import load_config
from cascade.server.run import serve
from cascade.server.tenant_file import TenantFile

config = load_config(Path(sys.argv[1]))
file = TenantFile(config.state_path / "tenants.state")

def told(facts):
    with Client(f"127.0.0.1:{facts['port']}", timeout=30) as client:
        try:
            client.decide(node=sys.argv[2], text="hello", context={"tenant": "acme"})
        except DecisionError:  # nobody is there to be the teacher
            pass
    print(file.read("acme").tokens, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

serve(config, "127.0.0.1:0", 1, told)
print(file.read("acme").tokens, flush=True)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "cascade.yaml"), NODE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    served, ended = map(float, done.stdout.split())
    assert served == most - 1 - 50, "what the rate gives in 0.05 s is taken ahead"
    assert ended >= most - 1


def test_metrics_and_log_tell_the_workers_apart_and_forget_one_that_ended(
    serve: Callable[[int], Service], document: dict[str, Any]
) -> None:
    document["http"] = {"listen": "127.0.0.1:0"}
    service = serve(2)

    def seen() -> dict[int, tuple[int, float]]:
        """When each worker's loop last came round, by number, with its process id."""
        text = httpx2.get(f"http://{service.facts['http']}/metrics", timeout=LONG).raise_for_status().text
        name = "cascade_worker_seen_timestamp_seconds"
        found = re.findall(rf'^{name}{{pid="(\d+)",worker="(\d)"}} (.+)$', text, re.MULTILINE)
        counters = re.findall(r'^cascade_worker_cpu_seconds_total{worker="(\d)"}', text, re.MULTILINE)
        assert len(counters) == len(set(counters)), "a series for each number, whoever has it"
        return {int(worker): (int(pid), float(when)) for pid, worker, when in found}

    end = time.monotonic() + LONG
    while len(first := seen()) < 2 or not all(when for _, when in first.values()):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert {pid for pid, _ in first.values()} == service.workers()
    killed = first[0][0]
    os.kill(killed, signal.SIGKILL)
    service.wait_for_log(f"worker 0 (pid {killed}) ended by SIGKILL")
    while killed in (now := [pid for pid, _ in seen().values()]) or len(now) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert seen()[1][0] == first[1][0]
    for worker, pid in ((0, killed), (1, first[1][0])):
        assert f"[worker {worker}, {pid}]: " in service.log.read_text()
    assert f"ERROR cascade.server.supervisor[{service.process.pid}]: worker 0" in service.log.read_text()


def test_workers_end_when_their_parent_is_killed(serve: Callable[[int], Service]) -> None:
    service = serve(2)
    workers = service.workers()
    service.process.kill()
    end = time.monotonic() + LONG
    while any(Path(f"/proc/{pid}/fd").exists() and os.path.exists(f"/proc/{pid}/exe") for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.05)
