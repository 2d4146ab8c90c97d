"""The verbs of rollouts, called on a service over gRPC: the same answers as from the store itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import grpc

from cascade.client.credentials import PemFile, direct_options, identify
from cascade.client.tries import call
from cascade.v1 import rollout_pb2 as pb
from cascade.v1 import rollout_pb2_grpc

_STATUSES = {
    pb.ROLLOUT_STATUS_NONE: "none",
    pb.ROLLOUT_STATUS_RUNNING: "running",
    pb.ROLLOUT_STATUS_AWAITING_APPROVAL: "awaiting-approval",
    pb.ROLLOUT_STATUS_HELD: "held",
    pb.ROLLOUT_STATUS_ROLLED_BACK: "rolled-back",
}


class RolloutCalls:
    """Calls a `RolloutService`. Errors are those of gRPC.

    What an overloaded server's gRPC refuses before the service sees it is asked again, within the time.

    Parameters
    ----------
    target : str
        `host:port` or `unix:path`.
    api_key : str, optional
        A bearer key with the verb `admin`, where the service needs one.
    ca, cert, key : path, optional
        As in `cascade.client.Client`.
    tls : bool, optional
        As in `cascade.client.Client`.
    name : str, optional
        Whom the server's certificate has to be for; by default the target's host.
    timeout : float
        Seconds for each call but `watch`.

    Raises
    ------
    ValueError, OSError
        As in `cascade.client.Client`.
    """

    def __init__(
        self,
        target: str,
        api_key: str | None = None,
        ca: PemFile | None = None,
        cert: PemFile | None = None,
        key: PemFile | None = None,
        tls: bool | None = None,
        name: str | None = None,
        timeout: float = 15.0,
    ) -> None:
        credentials, self._metadata = identify(target, (), api_key, ca, cert, key, tls)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, direct_options(target))
        else:
            options = [("grpc.ssl_target_name_override", name)] if name else []
            self._channel = grpc.secure_channel(target, credentials, options)
        self._stub: Any = rollout_pb2_grpc.RolloutServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._timeout = timeout

    def __enter__(self) -> RolloutCalls:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def start(self, **request: Any) -> dict[str, Any]:
        """Begin a rollout; the arguments are the fields of `StartRequest`."""
        return rollout_of(self._call(self._stub.Start, pb.StartRequest(**request)).rollout)

    def approve(self, **request: Any) -> dict[str, Any]:
        """Let a rollout go on."""
        return rollout_of(self._call(self._stub.Approve, pb.ApproveRequest(**request)).rollout)

    def hold(self, **request: Any) -> dict[str, Any]:
        """Keep a rollout where it is."""
        return rollout_of(self._call(self._stub.Hold, pb.HoldRequest(**request)).rollout)

    def rollback(self, **request: Any) -> dict[str, Any]:
        """Pull a bundle back."""
        return rollout_of(self._call(self._stub.Rollback, pb.RollbackRequest(**request)).rollout)

    def status(self, node: str) -> dict[str, Any]:
        """Say where a rollout stands."""
        return rollout_of(self._call(self._stub.Status, pb.StatusRequest(node=node)).rollout)

    def history(self, node: str) -> list[dict[str, Any]]:
        """Give all events of a node."""
        found = self._call(self._stub.History, pb.HistoryRequest(node=node))
        return [event_of(event) for event in found.events]

    def watch(self, node: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Say where a rollout stands, and again whenever that changes, with the events between."""
        for message in self._stub.Watch(pb.WatchRequest(node=node), metadata=self._metadata):
            yield rollout_of(message.rollout), [event_of(event) for event in message.events]

    def _call(self, method: Any, request: Any) -> Any:
        return call(method, request, self._timeout, self._metadata)


def rollout_of(message: Any) -> dict[str, Any]:
    """Give a `Rollout` message as JSON values, with the keys that `cascade.rollout.verbs.describe` uses."""
    said: dict[str, Any] = {
        "node": message.node, "seq": message.seq, "status": _STATUSES.get(message.status, "unknown"),
        "bundle": message.bundle, "stable": message.stable, "candidate": message.candidate,
        "percent": message.percent, "shares": list(message.shares), "automatic": message.automatic,
        "since": message.since.ToNanoseconds() / 1e9 if message.HasField("since") else 0.0,
        "who": message.who, "why": message.why, "rolled_back": dict(message.rolled_back),
        "flags": list(message.flags), "flags_problem": message.flags_problem, "problem": message.problem,
        "serving": message.serving if message.HasField("serving") else None,
    }  # fmt: skip
    if message.HasField("judgement"):
        judged = message.judgement
        said["judgement"] = {
            "bundle": judged.bundle, "action": judged.action, "reason": judged.reason,
            "audits": judged.audits, "disagreements": judged.disagreements,
            "agreement": judged.agreement if judged.HasField("agreement") else None,
            "evidence": judged.evidence, "needed": judged.needed, "audit_rate": judged.audit_rate,
        }  # fmt: skip
    return said


def event_of(message: Any) -> dict[str, Any]:
    """Give a `RolloutEvent` as JSON values."""
    return {
        "node": message.node, "seq": message.seq, "time": message.time.ToNanoseconds() / 1e9,
        "who": message.who, "what": message.what, "why": message.why, "bundle": message.bundle,
    }  # fmt: skip
