"""`cascade rollout start|status|watch|approve|hold|rollback|history`."""

from __future__ import annotations

import getpass
import inspect
import os
import socket
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import ConfigOption, JsonOption, NodeArgument, emit
from cascade.cli.rollout_side import KEY_VARIABLE, Service, Side, open_side

TargetOption = Annotated[
    str | None,
    typer.Option(
        help="host:port of a service to ask; by default the store in the configuration is used directly. "
        f"A key, where the service needs one, comes from the environment variable {KEY_VARIABLE}."
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        envvar="CASCADE_TLS_CA",
        help="With --target: TLS, trusting this PEM file.",
    ),
]
CertOption = Annotated[
    Path | None,
    typer.Option(
        envvar="CASCADE_TLS_CERT",
        help="With --target: your own certificate, where the service asks for one (PEM).",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(envvar="CASCADE_TLS_KEY", help="With --target: the private key of --cert (PEM)."),
]
TlsOption = Annotated[
    bool | None,
    typer.Option(
        "--tls/--no-tls",
        help="With --target: TLS also without --ca, trusting public authorities; or a key in plain text, "
        "where a tunnel or a mesh encrypts.",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        envvar="CASCADE_TLS_NAME",
        help="With --target: whom the service's certificate is for, where that is not the target's host.",
    ),
]
WhoOption = Annotated[str, typer.Option(help="Who does this; by default user@host.")]
WhyOption = Annotated[str, typer.Option("--why", "-m", help="Why, in one sentence.")]


_GIVEN = ("side", "as_json", "by")
"""Parameters of a verb that are no options of its own."""


def _side_options(
    config: ConfigOption = Path("cascade.yaml"),
    target: TargetOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    tls: TlsOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the options of every verb."""


def _change_options(who: WhoOption = "", why: WhyOption = "") -> None:
    """Have the options of every verb that changes something."""


def _with_options(
    command: Callable[..., None], verb: Callable[..., Any], *shared: Callable[..., None]
) -> Callable[..., None]:
    """Give a command a verb's name, help and own options, and after them the shared ones."""
    own = [p for p in _parameters(verb) if p.name not in _GIVEN]
    parameters = own + [p for function in shared for p in _parameters(function)]
    wrapped: Any = wraps(verb)(command)
    wrapped.__signature__ = inspect.Signature(parameters)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    found: Callable[..., None] = wrapped
    return found


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _asks(verb: Callable[..., None]) -> Callable[..., None]:
    """Make a verb that only asks a command."""

    def command(config: Path, as_json: bool, **arguments: Any) -> None:
        service = _service(arguments)
        with open_side(config, service) as side:
            verb(side, as_json, **arguments)

    return _with_options(command, verb, _side_options)


def _changes(verb: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """Make a verb that changes a rollout a command, which names who does it and shows what became of it."""

    def command(who: str, config: Path, as_json: bool, **arguments: Any) -> None:
        service = _service(arguments)
        with open_side(config, service) as side:
            said = verb(side, who=who or _me(), **arguments)
            if as_json:
                emit(said)
            else:
                _show(said)

    return _with_options(command, verb, _change_options, _side_options)


def _service(arguments: dict[str, Any]) -> Service:
    """Take the options that say whom to ask, and how, out of a command's arguments."""
    return Service(**{field.name: arguments.pop(field.name) for field in fields(Service)})


def _me() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}@{socket.gethostname()}"


@_changes
def start(
    side: Side,
    node: NodeArgument,
    bundle: Annotated[str, typer.Option(help="The version; by default the newest.")] = "",
    percent: Annotated[int, typer.Option(help="The step to begin at: 0 is shadow.")] = 0,
    approval: Annotated[
        str, typer.Option(help="automatic or manual; by default what the configuration says.")
    ] = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Even if it was rolled back, is fenced off or serves, or another is under way."
        ),
    ] = False,
    **by: str,
) -> dict[str, Any]:
    """Begin the rollout of a bundle: shadow first, then more and more of the traffic as evidence comes in.

    Example: `cascade rollout start support-intent --why "trained on November"`
    """
    return side.start(node=node, bundle=bundle, percent=percent, approval=approval, force=force, **by)


@_changes
def approve(
    side: Side,
    node: NodeArgument,
    force: Annotated[bool, typer.Option("--force", help="To the next step without the evidence.")] = False,
    **by: str,
) -> dict[str, Any]:
    """Let a rollout that waits for approval, or is held, go on.

    Example: `cascade rollout approve support-intent`
    """
    return side.approve(node=node, force=force, **by)


@_changes
def hold(side: Side, node: NodeArgument, **by: str) -> dict[str, Any]:
    """Keep a rollout at its step until it is approved; the guard may still pull it back.

    Example: `cascade rollout hold support-intent --why "nobody is here at the weekend"`
    """
    return side.hold(node=node, **by)


@_changes
def rollback(
    side: Side,
    node: NodeArgument,
    bundle: Annotated[
        str, typer.Option(help="The version; by default the candidate, else the stable one.")
    ] = "",
    **by: str,
) -> dict[str, Any]:
    """Pull a bundle back, for every worker and replica, whatever flags say.

    Example: `cascade rollout rollback support-intent --why "wrong refunds"`
    """
    return side.rollback(node=node, bundle=bundle, **by)


@_asks
def status(side: Side, as_json: bool, node: NodeArgument) -> None:
    """Say what a node serves to whom, and what the guard says; the guard's word needs --target.

    Example: `cascade rollout status support-intent`
    """
    said = side.status(node)
    if as_json:
        emit(said)
    else:
        _show(said)


@_asks
def watch(side: Side, as_json: bool, node: NodeArgument) -> None:
    """Follow a rollout: a line, or with --json an object, for every change, until Ctrl-C.

    Example: `cascade rollout watch support-intent`
    """
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


@_asks
def history(side: Side, as_json: bool, node: NodeArgument) -> None:
    """Show every change of a node's rollouts: who, when and why.

    Example: `cascade rollout history support-intent --json`
    """
    events = side.history(node)
    if as_json:
        emit({"node": node, "events": events})
        return
    for event in events:
        typer.echo(_line(event))
    if not events:
        typer.echo(f"{node}: no rollout yet")


def _show(said: dict[str, Any]) -> None:
    should, serving = said["stable"], said["serving"]
    unsure = serving is None and said["problem"]
    serves = _answerer(should if serving is None else serving)
    lines = [f"{said['node']}: {serves} {'should answer' if unsure else 'answers'}"]
    if serving is not None and should and serving != should:
        lines.append(f"  {_answerer(should)} should")
    if said["problem"]:
        lines.append(f"  problem: {said['problem']}")
    if unsure:
        lines.append(
            "  a service that starts now lets the teacher answer; one that runs goes on with what it had: "
            "--target asks it"
        )
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
    if said["flags_problem"]:
        lines.append(f"  flag file {said['flags_problem']}")
    if said["flags"]:
        lines.append(f"  flags in the flag file, which win for whom they speak: {', '.join(said['flags'])}")
    lines += [f"  rolled back: {version}: {why}" for version, why in said["rolled_back"].items()]
    typer.echo("\n".join(lines))


def _answerer(version: str) -> str:
    return f"bundle {version}" if version else "the teacher"


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    what = f"{event['seq']:>4}  {at}  {event['what']:<8}  {event['bundle']}"
    return f"{what}  {event['who']}  {event['why']}".rstrip()
