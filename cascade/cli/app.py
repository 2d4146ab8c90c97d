"""The commands, one file each."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli import (
    bundle,
    demo,
    discover,
    encoder,
    frontier,
    import_traffic,
    key,
    loop,
    privacy,
    report,
    retrain,
    rollout,
    rollout_plan,
    serve,
    simulate,
    traffic,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cascade {version('cascade-ladder')}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Answers an agent's narrow calls from the cheapest model that is proven good enough."""


app = typer.Typer(
    help="Answers an agent's narrow calls from the cheapest model that is proven good enough.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
encoder_app = typer.Typer(help="Sentence encoders for the `encoder` rung.", no_args_is_help=True)
app.add_typer(encoder_app, name="encoder")
rollout_app = typer.Typer(help="How a bundle goes live, and back.", no_args_is_help=True)
app.add_typer(rollout_app, name="rollout")
key_app = typer.Typer(help="Bearer keys of tenants.", no_args_is_help=True)
app.add_typer(key_app, name="key")
bundle_app = typer.Typer(help="Signatures of bundles.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

traffic_app = typer.Typer(
    help="What is stored, exported, deleted, erased and encrypted.", no_args_is_help=True
)
app.add_typer(traffic_app, name="traffic")

app.callback()(_main)
app.command()(serve.serve)
app.command("import")(import_traffic.import_traffic)
app.command()(retrain.retrain)
app.command()(loop.loop)
app.command()(report.report)
app.command()(discover.discover)
app.command()(simulate.simulate)
app.command()(demo.demo)
app.command()(frontier.frontier)
encoder_app.command("export")(encoder.export_encoder)
rollout_app.command("plan")(rollout_plan.plan)
rollout_app.command()(rollout.start)
rollout_app.command()(rollout.status)
rollout_app.command()(rollout.watch)
rollout_app.command()(rollout.approve)
rollout_app.command()(rollout.hold)
rollout_app.command()(rollout.rollback)
rollout_app.command()(rollout.history)
key_app.command("create")(key.create_key)
key_app.command("list")(key.list_keys)
key_app.command("revoke")(key.revoke_key)
bundle_app.command("keygen")(bundle.create_signing_key)
bundle_app.command("sign")(bundle.sign)
bundle_app.command("verify")(bundle.verify)
traffic_app.command("counts")(traffic.counts)
traffic_app.command("show")(traffic.show)
traffic_app.command("export")(traffic.export)
traffic_app.command("prune")(privacy.prune)
traffic_app.command("erase")(privacy.erase)
traffic_app.command("lineage")(privacy.lineage)
traffic_app.command("reseal")(privacy.reseal)
traffic_app.command("key")(privacy.key)
