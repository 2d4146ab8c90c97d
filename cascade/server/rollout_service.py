"""The methods of `cascade.v1.RolloutService`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from cascade.config import Config
from cascade.errors import InvalidInput, Overloaded, UnknownNode
from cascade.flags import FlagdFileProvider, Flags
from cascade.flags.named import named_in_force
from cascade.rollout.state import Event, NodeRollout
from cascade.rollout.verbs import Verbs, describe
from cascade.server.call import Call
from cascade.server.entrance import Entrance
from cascade.server.gate import Gate
from cascade.server.intake import parse
from cascade.server.rollouts import Rollouts
from cascade.server.status import abort
from cascade.v1 import rollout_pb2 as pb
from cascade.waiting import waiting

SERVICE = "cascade.v1.RolloutService"
MOST_WATCHERS = 32
_LOOK_SECONDS = 0.2
_MOST_TEXT = 1000
_STATUSES = {
    "none": pb.ROLLOUT_STATUS_NONE,
    "running": pb.ROLLOUT_STATUS_RUNNING,
    "awaiting-approval": pb.ROLLOUT_STATUS_AWAITING_APPROVAL,
    "held": pb.ROLLOUT_STATUS_HELD,
    "rolled-back": pb.ROLLOUT_STATUS_ROLLED_BACK,
}


class RolloutServicer:
    """Answers the methods.

    Parameters
    ----------
    config : Config
    rollouts : Rollouts
    gate : Gate
        Says who calls.
    flags : Flags
        What is in force in this process.
    """

    def __init__(self, config: Config, rollouts: Rollouts, gate: Gate, flags: Flags) -> None:
        self._config = config
        self._rollouts = rollouts
        self._gate, self._flags = gate, flags
        self._verbs = Verbs(config, rollouts.store)
        self._watchers = threading.BoundedSemaphore(MOST_WATCHERS)

    def start(self, raw: bytes, context: Call) -> bytes:
        """Begin a rollout."""

        def act(request: Any, who: str) -> NodeRollout:
            return self._verbs.start(
                request.node, who, request.why, request.bundle, request.percent, request.approval,
                request.force,
            )  # fmt: skip

        return self._change(pb.StartRequest, pb.StartResponse, raw, context, act)

    def approve(self, raw: bytes, context: Call) -> bytes:
        """Let a rollout go on."""
        return self._change(
            pb.ApproveRequest, pb.ApproveResponse, raw, context,
            lambda request, who: self._verbs.approve(request.node, who, request.why, request.force),
        )  # fmt: skip

    def hold(self, raw: bytes, context: Call) -> bytes:
        """Keep a rollout where it is."""
        return self._change(
            pb.HoldRequest, pb.HoldResponse, raw, context,
            lambda request, who: self._verbs.hold(request.node, who, request.why),
        )  # fmt: skip

    def rollback(self, raw: bytes, context: Call) -> bytes:
        """Pull a bundle back."""
        return self._change(
            pb.RollbackRequest, pb.RollbackResponse, raw, context,
            lambda request, who: self._verbs.rollback(request.node, who, request.why, request.bundle),
        )  # fmt: skip

    def status(self, raw: bytes, context: Call) -> bytes:
        """Say where a rollout stands."""
        try:
            request = self._read(pb.StatusRequest, raw, context)
            with waiting():
                rollout = self._message(self._verbs.state(request.node))
            return pb.StatusResponse(rollout=rollout).SerializeToString()
        except Exception as error:
            abort(context, error)

    def history(self, raw: bytes, context: Call) -> bytes:
        """Give all events of a node."""
        try:
            request = self._read(pb.HistoryRequest, raw, context)
            with waiting():
                events = self._verbs.history(request.node)
            return pb.HistoryResponse(events=[event_message(e) for e in events]).SerializeToString()
        except Exception as error:
            abort(context, error)

    def watch(self, raw: bytes, context: Call) -> Iterator[bytes]:
        """Say where a rollout stands, and again whenever that changes."""
        try:
            request = self._read(pb.WatchRequest, raw, context)
            state = self._verbs.state(request.node)
            if not self._watchers.acquire(blocking=False):
                raise Overloaded(f"more than {MOST_WATCHERS} calls watch; try again later", retry_after=5.0)
        except Exception as error:
            abort(context, error)
        ended = threading.Event()
        try:
            if not context.add_callback(ended.set):
                return
            told, events = -1, list[Event]()
            while not ended.is_set():
                if state.seq != told:
                    yield pb.WatchResponse(
                        rollout=self._message(state), events=[event_message(e) for e in events]
                    ).SerializeToString()
                    told = state.seq
                with waiting():
                    ended.wait(_LOOK_SECONDS)
                # Followed in the background already: watching asks the store nothing of its own.
                known = self._rollouts.follower.state(request.node)
                if known.seq != told:  # less where a backup took the database's place
                    after = known.seq > told
                    events = self._rollouts.store.events(request.node, told) if after else []
                    state = known
        except Exception as error:
            abort(context, error)
        finally:
            self._watchers.release()

    def _read(self, kind: Any, raw: bytes, context: Call, verb: str = "read") -> Any:
        caller = self._gate.enter(context, verb)
        request = parse(kind, raw)
        if not request.node:
            raise InvalidInput("node", "must name a node")
        if request.node not in self._config.nodes:
            raise UnknownNode(request.node, list(self._config.nodes))
        caller.check_node(request.node)
        return request

    def _change(
        self,
        kind: Any,
        answer: Any,
        raw: bytes,
        context: Call,
        act: Callable[[Any, str], NodeRollout],
    ) -> bytes:
        try:
            request = self._read(kind, raw, context, "admin")
            key = self._gate.enter(context, "admin").key
            who = f"key {key}" if key else request.who.strip()
            for field, text in (("who", who), ("why", request.why)):
                if len(text) > _MOST_TEXT:
                    raise InvalidInput(field, f"has {len(text)} characters; the limit is {_MOST_TEXT}")
            if not who:
                raise InvalidInput("who", "must say who does this")
            with waiting():
                state = act(request, who)
            self._rollouts.watch.follow()  # here at once, elsewhere with the next look
            result: bytes = answer(rollout=self._message(state)).SerializeToString()
            return result
        except Exception as error:
            abort(context, error)

    def _message(self, state: NodeRollout) -> Any:
        provider = self._flags.provider
        of_file = named_in_force(provider, state.node) if isinstance(provider, FlagdFileProvider) else None
        said = describe(self._config, state, of_file)
        node = self._rollouts.nodes[state.node]
        message = pb.Rollout(
            node=state.node, seq=state.seq, status=_STATUSES[said["status"]], bundle=said["bundle"],
            stable=said["stable"], candidate=said["candidate"], percent=said["percent"],
            shares=said["shares"], automatic=said["automatic"], who=said["who"], why=said["why"],
            rolled_back=said["rolled_back"], flags=said["flags"],
            flags_problem=said["flags_problem"], problem=node.trouble,
            serving=node.bundle.version if node.bundle else "",
        )  # fmt: skip
        if state.since:
            message.since.FromNanoseconds(int(state.since * 1e9))
        judged = self._rollouts.judgement(state.node, said["candidate"] or said["stable"])
        if judged is not None:
            message.judgement.CopyFrom(pb.Judgement(**judged))
        return message


def event_message(event: Event) -> Any:
    """Make an event a `RolloutEvent`."""
    message = pb.RolloutEvent(
        node=event.node, seq=event.seq, who=event.who, what=event.what, why=event.why, bundle=event.bundle
    )
    message.time.FromNanoseconds(int(event.time * 1e9))
    return message


def add_to_server(servicer: RolloutServicer, server: grpc.aio.Server, entrance: Entrance) -> None:
    """Register the methods, raw bytes in and out. Under any load: a rollback is wanted then most."""
    methods = {
        "Start": servicer.start,
        "Status": servicer.status,
        "Approve": servicer.approve,
        "Hold": servicer.hold,
        "Rollback": servicer.rollback,
        "History": servicer.history,
    }
    handlers = {name: entrance.unary(name, method, refuses=False) for name, method in methods.items()}
    handlers["Watch"] = entrance.answers("Watch", servicer.watch)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
