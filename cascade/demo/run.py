"""The demo: traffic to a simulated frontier, retraining, serving, unseen traffic, and what it came to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cascade.client import Client
from cascade.config import load_config
from cascade.demo.comparison import compared, print_result
from cascade.demo.processes import DemoFailed, free_port, frontier, service
from cascade.demo.rollout_story import ROLLOUT, bad_bundle, go_live
from cascade.demo.traffic import BARS, SAMPLE, NodeTraffic, Sent, read_traffic, recorded_answers, send
from cascade.errors import ConfigError

PRICE = {"input": 2.5, "output": 10.0}
IN_FLIGHT = 4
"""Requests under way at once where latency is measured."""
N_MEASURED = 80
"""Requests of the history by which always-teacher's latency is measured."""
REPOSITORY = Path(__file__).resolve().parents[2]

_console = Console(stderr=True)


def run_demo(folder: Path, data: Path | None, seed: int, quiet: bool = False) -> dict[str, Any]:
    """Run the whole way and report it.

    Parameters
    ----------
    folder : Path
        Made anew: store, bundles, configuration, plot.
    data : Path, optional
        Real data instead of the sample.
    seed : int
    quiet : bool
        Whether progress and table are left out.

    Returns
    -------
    dict
        One entry a node, and where things lie.

    Raises
    ------
    ConfigError, DemoFailed
    """
    try:
        from training.plots import demo_plot
    except ImportError as error:
        raise ConfigError(f"`{error.name}` is not installed: pip install 'cascade-ladder[train]'") from error
    traffic = read_traffic(SAMPLE, data)
    port = free_port()
    config = _prepare(folder, traffic, port)
    began = time.monotonic()
    told, first = partial(_say, quiet), traffic[0]
    told("1/5 everything goes to the simulated frontier (no model: it replays recorded answers)")
    with service(config) as target, Client(target) as client:
        with frontier(folder, seed, port):
            waited = {t.node: _send(client, t, "latency", quiet) for t in traffic}
        with frontier(folder, seed, port, latency_ms=0.0):
            before = {t.node: _send(client, t, "history", quiet) for t in traffic}
    told("2/5 retraining on the frontier's answers")
    certified = [t.node for t in traffic if _retrain(config, t.node, seed, quiet, t is not first)]
    story: dict[str, Any] = {}
    with frontier(folder, seed, port):
        if first.node in certified:
            told(f"3/5 {first.node}'s bundle goes live by evidence: shadow, 25 %, everybody; others at once")
            with service(rollout_config(config)) as target:
                story["rollout"] = go_live(target, first, told)
        told("4/5 unseen traffic through the new ladders")
        with service(config) as target, Client(target) as client:
            _wait_for_bundles(client, config, traffic)
            after = {t.node: _send(client, t, "unseen", quiet) for t in traffic}
        if first.node in certified:
            told("5/5 a bundle with some labels in the wrong order is started at 25 %")
            with service(rollout_config(config)) as target:
                models = load_config(config).models_path
                bad = story["bad_bundle"] = bad_bundle(target, models, first, told)
                fate = "was pulled back" if bad["caught"] else "was not pulled back"
                told(
                    f"   it {fate} after {bad['on_it']:,} requests on it ({bad['wrong']:,} answered wrongly) "
                    f"of {bad['requests']:,}; {bad['failed']:,} failed"
                )
    rows = [compared(t.node, waited[t.node], before[t.node], after[t.node]) for t in traffic]
    plot = folder / "comparison.png"
    demo_plot(rows, plot)
    result = {
        "nodes": rows,
        "plot": str(plot),
        "config": str(config),
        "frontier_port": port,
        "story": story,
        "seconds": round(time.monotonic() - began, 1),
    }
    if not quiet:
        print_result(result, folder)
    return result


def _prepare(folder: Path, traffic: Sequence[NodeTraffic], port: int) -> Path:
    if folder.exists():
        if not (folder / "answers.json").is_file() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not a demo's folder and not empty: name another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / "answers.json").write_text(json.dumps(recorded_answers(traffic), ensure_ascii=False))
    encoder = REPOSITORY / "models" / "encoders" / "all-MiniLM-L6-v2"
    document = {
        "store": "sqlite:///traffic.db",
        "listen": "127.0.0.1:50051",
        "rollout": {"audit": {"ceiling": 0.05}},
        "rungs": {
            "linear": {"kind": "linear"},
            "encoder": {"kind": "encoder", "model": str(encoder)},
            "frontier": {
                "kind": "chat", "base_url": f"http://127.0.0.1:{port}/v1", "model": "simulated-frontier",
                "price": PRICE, "timeout_seconds": 10,
            },
        },
        "nodes": {
            t.node: {
                "prompt": t.prompt, "contract": {"labels": "from-traffic"},
                "bar": {"agreement": BARS.get(t.node, 0.95), "confidence": 0.95},
                "ladder": ["linear", "encoder", "frontier"],
            }
            for t in traffic
        },
    }  # fmt: skip
    config = folder / "cascade.yaml"
    config.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    load_config(config)
    return config


def rollout_config(config: Path) -> Path:
    """Write the same configuration with few steps and many audits, for the rollout's story."""
    document = yaml.safe_load(config.read_text())
    path = config.with_name("rollout.yaml")
    path.write_text(yaml.safe_dump(document | {"rollout": ROLLOUT}, sort_keys=False, allow_unicode=True))
    return path


def _send(client: Client, traffic: NodeTraffic, part: str, quiet: bool) -> list[Sent]:
    """Send a part of a node's traffic: `latency`, the beginning of its history; `history`; or `unseen`.

    The history is sent one by one, to a frontier without latency, which takes no longer than many at once to
    one with it. Many at once are logged in another order each time, and the certificate's held-out records
    are the newest: the same history settled 70 to 96 % of a node by the luck of that order.
    """
    examples = traffic.unseen if part == "unseen" else traffic.history
    if part == "latency":
        examples = examples[:N_MEASURED]
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console, disable=quiet) as progress:
        task = progress.add_task(f"{traffic.node} {part}", total=len(examples))
        in_flight = 1 if part == "history" else IN_FLIGHT
        sent = send(client, traffic.node, examples, in_flight, lambda: progress.advance(task))
    failed = [s for s in sent if s.decision is None]
    if len(failed) > len(sent) // 20:
        raise DemoFailed(f"{traffic.node}: {len(failed)} of {len(sent)} requests failed: {failed[0].error}")
    return sent


def _retrain(config: Path, node: str, seed: int, quiet: bool, activate: bool) -> bool:
    """Retrain a node; say whether it has a certified bundle now."""
    command = [
        sys.executable,
        "-m",
        "cascade.cli",
        "retrain",
        node,
        "--config",
        str(config),
        "--seed",
        str(seed),
        "--json",
        *(() if activate else ("--no-activate",)),
    ]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise DemoFailed(f"`{' '.join(command[1:])}` failed:\n{done.stderr[-2000:]}")
    result = (
        json.loads(done.stdout.splitlines()[-1])
        if done.stdout.strip()
        else {"certificate": {"reason": done.stderr}}
    )
    _say(quiet, f"   {node} ({time.monotonic() - began:.0f} s): {result['certificate']['reason']}")
    return done.returncode == 0


def _wait_for_bundles(client: Client, config: Path, traffic: Sequence[NodeTraffic]) -> None:
    """Wait until the service has noticed what was retrained."""
    from cascade.pointer import serving_version

    models = load_config(config).models_path
    for t in traffic:
        wanted = serving_version(models, t.node)
        end = time.monotonic() + 30
        probe = t.history[0]
        while wanted is not None:
            seen = client.decide(node=t.node, text=probe.text, messages=probe.messages or None, timeout=30)
            if seen.bundle_version == wanted:
                break
            if time.monotonic() > end:
                raise DemoFailed(f"{t.node}: the service does not serve bundle {wanted}")
            time.sleep(0.5)


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        _console.print(text, markup=False, highlight=False, soft_wrap=True)
