"""`cascade rollout plan`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    clear_errors,
    emit,
    node_of,
    read_config,
    steps,
    wide_console,
)
from cascade.config import Config
from cascade.errors import InvalidInput
from cascade.policy.guard_simulation import Traffic
from cascade.policy.guarded_slices import GuardedSlices
from cascade.policy.rollout_plan import Plan, Span, likely_agreements
from cascade.policy.rollout_plan import plan as simulate
from cascade.policy.steps import SHADOW


def plan(
    node: NodeArgument,
    agreement: Annotated[
        list[float] | None,
        typer.Option(help="A true agreement to plan for, such as 0.97; may be given several times."),
    ] = None,
    per_day: Annotated[
        float | None, typer.Option(help="Requests a day; by default, those of the last 24 hours.")
    ] = None,
    settled: Annotated[
        float | None,
        typer.Option(help="Share that the candidate settles; by default, what its certificate says."),
    ] = None,
    bundle: Annotated[str, typer.Option(help="The candidate's version; by default, the newest.")] = "",
    rollouts: Annotated[int, typer.Option(help="Rollouts to simulate for each agreement.", min=20)] = 200,
    config: ConfigOption = Path("cascade.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Say how many audits and how long each step of a rollout will take at today's traffic.

    How good the candidate really is, nobody knows beforehand; so several agreements are planned for. Each is
    simulated with the guard, the steps and the audit rate that serve.

    Example: `cascade rollout plan support-intent --agreement 0.97`
    """
    with clear_errors():
        loaded = read_config(config)
        bar = node_of(loaded, node).bar
        for value in agreement or ():
            if not 0 < value < 1:
                raise InvalidInput("--agreement", f"{value} is not between 0 and 1")
        for name, given in (("--per-day", per_day), ("--settled", settled)):
            if given is not None and not given > 0:
                raise InvalidInput(name, f"{given} is not above 0")
        if settled is not None and settled > 1:
            raise InvalidInput("--settled", f"{settled} is a share, at most 1")
        traffic, source = _traffic(loaded, node, per_day, settled, bundle)
        from cascade.rollout.judge import audit_settings, guard_settings

        shares = (SHADOW, *loaded.rollout.steps)
        settings = guard_settings(bar, shares, GuardedSlices())
        agreements = sorted(agreement or likely_agreements(bar.agreement))
        plans: list[Plan] = []
        with steps("planning", quiet=as_json) as step:
            for value in agreements:
                step(f"an agreement of {value:.4g}")
                plans += simulate(
                    settings, [value], traffic, audit_settings(loaded.rollout.audit), shares, rollouts
                )
        if as_json:
            emit(
                {
                    "node": node,
                    "bar": bar.agreement,
                    "traffic": asdict(traffic),
                    "plans": [asdict(p) for p in plans],
                }
            )
            return
        typer.echo(f"{node}: {source}")
        _show(plans, bar.agreement)


def _traffic(
    config: Config, node: str, per_day: float | None, settled: float | None, bundle: str
) -> tuple[Traffic, str]:
    from cascade.manifest import read_manifest, settled_share
    from cascade.pointer import serving_version
    from cascade.traffic import open_traffic
    from cascade.traffic.decision_rate import DAY, decision_rate

    folder = config.models_path / node
    if settled is None:
        version = bundle or _newest(folder)
        if not version:
            raise InvalidInput("--settled", f"{node} has no bundle that would say how much it settles")
        manifest = read_manifest(folder / version)
        certificate = manifest["certificate"]
        if not certificate["valid"]:
            raise InvalidInput("--bundle", f"{version} has no valid certificate: {certificate['reason']}")
        settled = settled_share(manifest)
        whose = f"{version} settles {settled:.0%} of its held-out records"
    else:
        whose = f"{settled:.0%} settled"
    store = open_traffic(config)
    try:
        means = store.teacher_means(node)
        rate = decision_rate(store, node, time.time())
    finally:
        store.close()
    if per_day is None:
        if not rate.decisions:
            raise InvalidInput(
                "--per-day", f"{node} had no traffic in the last 24 hours; say how much is expected"
            )
        per_day = rate.per_second * DAY
        measured = f"{rate.decisions:,} decisions in the last {rate.seconds / 3600:.1f} hours"
    else:
        measured = f"{per_day:,.0f} requests a day"
    usd = means[0] if means else 0.0
    alone = serving_version(config.models_path, node) is None
    return Traffic(per_day / DAY, settled, usd, alone), f"{measured}, {whose}, an audit costs ${usd:.5f}"


def _newest(folder: Path) -> str:
    return max((path.parent.name for path in folder.glob("[0-9]*-*/manifest.json")), default="")


def _show(plans: list[Plan], bar: float) -> None:
    table = Table(
        title=f"Audits and time that half of the rollouts need (nine of ten, in brackets); bar {bar:.4g}",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("true agreement")
    for step in plans[0].steps:
        table.add_column("shadow" if step.share == 0 else f"{step.share} %", justify="right")
    for name in ("get to 100 %", "in all", "are rolled back"):
        table.add_column(name, justify="right")
    for one in plans:
        table.add_row(
            f"{one.agreement:.4g}",
            *(_took(step.left, step.audits, step.seconds) for step in one.steps),
            f"{one.to_full:.0%}",
            _took(one.to_full, one.audits, one.seconds)
            + (f"\n${one.usd.median:.2f}" if one.usd.median > 0 else ""),
            f"{one.rolled_back:.0%}"
            + ("" if one.rolled_back < 0.05 else "\n" + _took(1, one.caught_audits, one.caught_seconds)),
        )
    wide_console().print(table)


def _took(share: float, audits: Span, seconds: Span) -> str:
    # what hardly any simulated rollout did says little about how long it takes
    if share < 0.05:
        return "-"
    return (
        f"{_number(audits.median)} ({_number(audits.most)})\n{_time(seconds.median)} ({_time(seconds.most)})"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
