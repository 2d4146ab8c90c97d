"""`cascade rollout start|status|watch|approve|hold|rollback|history`."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import (
    ConfigOption,
    JsonOption,
    NodeArgument,
    emit,
)
from cascade.cli.rollout_side import KEY_VARIABLE, Side, open_side

TargetOption = Annotated[
    str | None,
    typer.Option(
        help="host:port of a service to ask; by default the store in the configuration is used directly. "
        f"A key, where the service needs one, comes from the environment variable {KEY_VARIABLE}."
    ),
]
CaOption = Annotated[Path | None, typer.Option(help="With --target: TLS, trusting this PEM file.")]
WhoOption = Annotated[str, typer.Option(help="Who does this; by default user@host.")]
WhyOption = Annotated[str, typer.Option("--why", "-m", help="Why, in one sentence.")]


def _me() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}@{socket.gethostname()}"


def start(
    node: NodeArgument,
    bundle: Annotated[str, typer.Option(help="The version; by default the newest.")] = "",
    percent: Annotated[int, typer.Option(help="The step to begin at: 0 is shadow.")] = 0,
    approval: Annotated[
        str, typer.Option(help="automatic or manual; by default what the configuration says.")
    ] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Even if it was rolled back or serves, or another is under way."),
    ] = False,
    who: WhoOption = "",
    why: WhyOption = "",
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin the rollout of a bundle: shadow first, then more and more of the traffic as evidence comes in.

    Example: `cascade rollout start support-intent --why "trained on November"`
    """
    _change(
        lambda side: side.start(
            node=node,
            bundle=bundle,
            percent=percent,
            approval=approval,
            force=force,
            who=who or _me(),
            why=why,
        ),
        config,
        target,
        ca,
        as_json,
    )


def approve(
    node: NodeArgument,
    force: Annotated[bool, typer.Option("--force", help="To the next step without the evidence.")] = False,
    who: WhoOption = "",
    why: WhyOption = "",
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a rollout that waits for approval, or is held, go on.

    Example: `cascade rollout approve support-intent`
    """
    _change(
        lambda side: side.approve(node=node, force=force, who=who or _me(), why=why),
        config, target, ca, as_json,
    )  # fmt: skip


def hold(
    node: NodeArgument,
    who: WhoOption = "",
    why: WhyOption = "",
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a rollout at its step until it is approved; the guard may still pull it back.

    Example: `cascade rollout hold support-intent --why "nobody is here at the weekend"`
    """
    _change(lambda side: side.hold(node=node, who=who or _me(), why=why), config, target, ca, as_json)


def rollback(
    node: NodeArgument,
    bundle: Annotated[
        str, typer.Option(help="The version; by default the candidate, else the stable one.")
    ] = "",
    who: WhoOption = "",
    why: WhyOption = "",
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pull a bundle back, for every worker and replica, whatever flags say.

    Example: `cascade rollout rollback support-intent --why "wrong refunds"`
    """
    _change(
        lambda side: side.rollback(node=node, bundle=bundle, who=who or _me(), why=why),
        config, target, ca, as_json,
    )  # fmt: skip


def status(
    node: NodeArgument,
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a node serves to whom, and what the guard says; the guard's word needs --target.

    Example: `cascade rollout status support-intent`
    """
    _change(lambda side: side.status(node), config, target, ca, as_json)


def watch(
    node: NodeArgument,
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a rollout: a line, or with --json an object, for every change, until Ctrl-C.

    Example: `cascade rollout watch support-intent`
    """
    with open_side(config, target, ca) as side:
        try:
            for said, events in side.watch(node):
                if as_json:
                    emit({"rollout": said, "events": events})
                    continue
                for event in events:
                    typer.echo(_line(event))
                if not events:
                    _show(said)
        except KeyboardInterrupt:
            return


def history(
    node: NodeArgument,
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every change of a node's rollouts: who, when and why.

    Example: `cascade rollout history support-intent --json`
    """
    with open_side(config, target, ca) as side:
        events = side.history(node)
        if as_json:
            emit({"node": node, "events": events})
            return
        for event in events:
            typer.echo(_line(event))
        if not events:
            typer.echo(f"{node}: no rollout yet")


def _change(
    act: Callable[[Side], dict[str, Any]],
    config: Path,
    target: str | None,
    ca: Path | None,
    as_json: bool,
) -> None:
    with open_side(config, target, ca) as side:
        said = act(side)
        if as_json:
            emit(said)
        else:
            _show(said)


def _show(said: dict[str, Any]) -> None:
    serves = f"bundle {said['stable']}" if said["stable"] else "the teacher"
    lines = [f"{said['node']}: {serves} answers"]
    if said["candidate"]:
        share = f"live for {said['percent']} % of the keys" if said["percent"] else "in shadow"
        steps = " -> ".join("shadow" if s == 0 else f"{s} %" for s in said["shares"])
        by = "by evidence" if said["automatic"] else "by evidence and approval"
        lines.append(f"  candidate {said['candidate']}: {share}, {said['status']} ({steps}, {by})")
    if said["seq"]:
        lines.append(f"  last change by {said['who']}: {said['why'] or '(no reason given)'}")
    judged = said.get("judgement")
    if judged is not None:
        agreement = "-" if judged["agreement"] is None else f"{judged['agreement']:.1%}"
        lines.append(
            f"  guard on {judged['bundle']}: {judged['action']}: {judged['reason']} "
            f"[{judged['audits']} audits, agreement {agreement}, evidence against the bar "
            f"{judged['evidence']:.3g} of {judged['needed']:.3g}, {judged['audit_rate']:.1%} audited]"
        )
    lines += [f"  rolled back: {version}: {why}" for version, why in said["rolled_back"].items()]
    typer.echo("\n".join(lines))


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    what = f"{event['seq']:>4}  {at}  {event['what']:<8}  {event['bundle']}"
    return f"{what}  {event['who']}  {event['why']}".rstrip()
