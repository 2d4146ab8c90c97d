"""Where `cascade rollout` carries its verbs out: on a service over gRPC, or on the store itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Service:
    """The service that is asked, and how; no target: the store itself. See `RolloutCalls`."""

    target: str | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    tls: bool | None
    name: str | None


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
        from cascade.rollout.verbs import problem_of

        found: dict[str, Any] = self._verbs.describe(node)
        problem = problem_of(self._verbs.config, node, found["stable"])
        return found | {"problem": problem, "serving": None}  # which only a service knows

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


def _calls(service: Service) -> Any:
    from cascade.client.credentials import PlainTextKey
    from cascade.rollout.calls import RolloutCalls

    api_key = os.environ.get(KEY_VARIABLE) or None
    if service.tls is False:  # over what the environment says of files
        service = Service(service.target, None, None, None, False, None)
    try:
        return RolloutCalls(**vars(service), api_key=api_key)
    except PlainTextKey:
        raise _failed(
            f"the key in {KEY_VARIABLE} would be sent to {service.target} in plain text, for anyone to read: "
            "give --ca FILE, or --tls where a public authority signed the server's certificate; where a "
            "service mesh or a tunnel encrypts, --no-tls"
        ) from None
    except ValueError as error:
        raise _failed(str(error)) from None


def _hint(error: Any, service: Service) -> str:
    """Say what of the command may be missing, where gRPC's words do not."""
    from cascade.client.results import error_of

    if error.code().name == "UNAUTHENTICATED":
        return f". Here, put an admin key into the environment variable {KEY_VARIABLE}"
    if error.code().name == "UNIMPLEMENTED":
        return " Where the service has server.admin_listen, give that as --target"
    if error.code().name != "UNAVAILABLE" or error_of(error).reason:  # the service says itself what it lacks
        return ""
    if "Connection refused" in error.details():
        return ". Nothing listens there"
    if "certificate has expired" in error.details() or "certificate is not yet valid" in error.details():
        return (
            ". The time of the service's certificate, or of one that signed it, is over or has not begun: "
            "renew it (server.tls.cert of the service), or set the clock of this machine right"
        )
    if any(
        words in error.details() for words in ("CERTIFICATE_VERIFY_FAILED", "certificate signature failure")
    ):
        return ". Give what signed the service's certificate as --ca"
    if "Hostname Verification" in error.details():
        return " The certificate is for another name than the target's host: give that as --name"
    if service.tls is False or not (service.tls or service.ca or service.cert):
        return ". Where the service has TLS, give --ca FILE or --tls"
    return "" if service.cert else ". Where the service asks for a certificate, give --cert and --key"


def _failed(text: str) -> typer.Exit:
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(EXIT_FAILED)


@contextmanager
def open_side(config: Path, service: Service) -> Iterator[Side]:
    """Open the service, or the store where none is named; errors of either become one clear line."""
    with clear_errors():
        if service.target is not None:
            import grpc

            with _calls(service) as calls:
                try:
                    yield calls
                except grpc.RpcError as error:
                    text = f"{service.target}: {error.code().name}: {error.details()}"
                    raise _failed(text + _hint(error, service)) from None
            return
        from cascade.rollout.database_store import DatabaseRolloutStore
        from cascade.rollout.verbs import Verbs
        from cascade.traffic import open_traffic

        loaded = read_config(config)
        # Makes no database: a service whose file was moved or deleted would never read it.
        store = open_traffic(loaded, create=False)
        try:
            yield _StoreSide(Verbs(loaded, DatabaseRolloutStore(store)))
        finally:
            store.close()
