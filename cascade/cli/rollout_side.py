"""Where `cascade rollout` carries its verbs out: on a service over gRPC, or on the store itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer

from cascade.cli.console import EXIT_FAILED, clear_errors, console, read_config

KEY_VARIABLE = "CASCADE_KEY"
_LOOK_SECONDS = 0.5


class Side(Protocol):
    """Where the verbs are carried out."""

    def start(self, **request: Any) -> dict[str, Any]: ...  # noqa: D102
    def approve(self, **request: Any) -> dict[str, Any]: ...  # noqa: D102
    def hold(self, **request: Any) -> dict[str, Any]: ...  # noqa: D102
    def rollback(self, **request: Any) -> dict[str, Any]: ...  # noqa: D102
    def status(self, node: str) -> dict[str, Any]: ...  # noqa: D102
    def history(self, node: str) -> list[dict[str, Any]]: ...  # noqa: D102
    def watch(self, node: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]: ...  # noqa: D102


class _StoreSide:
    """The verbs on the store itself: every worker that shares it follows within its polling time."""

    def __init__(self, verbs: Any) -> None:
        self._verbs = verbs

    def start(self, **request: Any) -> dict[str, Any]:
        self._verbs.start(**request)
        return self.status(request["node"])

    def approve(self, **request: Any) -> dict[str, Any]:
        self._verbs.approve(**request)
        return self.status(request["node"])

    def hold(self, **request: Any) -> dict[str, Any]:
        self._verbs.hold(**request)
        return self.status(request["node"])

    def rollback(self, **request: Any) -> dict[str, Any]:
        self._verbs.rollback(**request)
        return self.status(request["node"])

    def status(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = self._verbs.describe(node)
        return found

    def history(self, node: str) -> list[dict[str, Any]]:
        return [_event(event) for event in self._verbs.history(node)]

    def watch(self, node: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        seq = self.status(node)["seq"]
        yield self.status(node), []
        while True:
            time.sleep(_LOOK_SECONDS)
            news = self._verbs.store.events(node, seq)
            if news:
                seq = news[-1].seq
                yield self.status(node), [_event(event) for event in news]


def _event(event: Any) -> dict[str, Any]:
    return {
        "node": event.node, "seq": event.seq, "time": event.time, "who": event.who, "what": event.what,
        "why": event.why, "bundle": event.bundle,
    }  # fmt: skip


@contextmanager
def open_side(config: Path, target: str | None, ca: Path | None) -> Iterator[Side]:
    """Open the service at `target`, or the store; errors of either become one clear line."""
    with clear_errors():
        if target is not None:
            import grpc

            from cascade.rollout.calls import RolloutCalls

            trusted = grpc.ssl_channel_credentials(ca.read_bytes()) if ca is not None else None
            with RolloutCalls(target, os.environ.get(KEY_VARIABLE, ""), trusted) as calls:
                try:
                    yield calls
                except grpc.RpcError as error:
                    text = f"{target}: {error.code().name}: {error.details()}"
                    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                        text += f". Here, put an admin key into the environment variable {KEY_VARIABLE}"
                    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
                    raise typer.Exit(EXIT_FAILED) from None
            return
        from cascade.rollout.database_store import DatabaseRolloutStore
        from cascade.rollout.verbs import Verbs
        from cascade.traffic import open_traffic

        loaded = read_config(config)
        store = open_traffic(loaded)
        try:
            yield _StoreSide(Verbs(loaded, DatabaseRolloutStore(store)))
        finally:
            store.close()
