"""Every error that Cascade raises on purpose.

Each class stands for one thing that went wrong, carries the gRPC status that a caller gets for it, and
says what was wrong, where, and what to do. `cascade.server.status` turns them into gRPC statuses.
"""

from __future__ import annotations

from typing import ClassVar


class CascadeError(Exception):
    """Base of all errors that Cascade raises on purpose.

    Attributes
    ----------
    code : str
        Name of the gRPC status code, a member of `grpc.StatusCode`.
    reason : str
        Stable machine-readable reason, sent as `google.rpc.ErrorInfo.reason`.
    by_deadline : bool
        Whether it came of the caller's deadline: whoever asks the same with more time may get an answer.
    """

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    by_deadline: bool = False

    @property
    def message(self) -> str:
        """The text for the caller."""
        return str(self)


class InvalidInput(CascadeError):
    """A request field is wrong. `field` is its path in the request message."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description

    def within(self, path: str) -> InvalidInput:
        """Give the same of a message that is part of another; `path` is what stands before its fields."""
        return InvalidInput(f"{path}{self.field}", self.description)


class UnknownNode(CascadeError):
    """No node has that name."""

    code = "NOT_FOUND"
    reason = "UNKNOWN_NODE"

    def __init__(self, node: str, known: list[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"no node is named {node!r}; the configured nodes are: {names}")
        self.node = node


class UnknownDecision(CascadeError):
    """No decision has that id."""

    code = "NOT_FOUND"
    reason = "UNKNOWN_DECISION"


class ContractViolation(CascadeError):
    """Even the teacher's answer does not satisfy the node's contract, so there is no answer.

    Parameters
    ----------
    node : str
    why : str
        What is wrong with it.
    """

    code = "FAILED_PRECONDITION"
    reason = "TEACHER_BROKE_CONTRACT"

    def __init__(self, node: str, why: str) -> None:
        super().__init__(f"even the teacher's answer breaks the contract of node {node!r}: {why}")
        self.node = node


class RungError(CascadeError):
    """A rung could not answer. The ladder goes on to the next rung.

    Parameters
    ----------
    message : str
        What happened, without secrets.
    retry_after : float, optional
        Seconds after which another try is worthwhile.
    """

    code = "UNAVAILABLE"
    reason = "RUNG_FAILED"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnusableAnswer(RungError):
    """A rung answered, and the answer is none: a refusal, cut off, empty, or not what can be read."""


class UnreadableAnswer(UnusableAnswer):
    """A rung said something that cannot be read as what the contract asks for, such as prose for JSON."""


class TeacherUnavailable(RungError):
    """The teacher was needed and could not answer."""

    reason = "TEACHER_UNAVAILABLE"


class ShuttingDown(TeacherUnavailable):
    """The server ends before there is an answer; another one, or the same a moment later, has it."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down; try again", retry_after=1.0)


class DeadlineExceeded(CascadeError):
    """The caller's deadline leaves no time for the rung that would have to answer."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"
    by_deadline = True

    def __init__(self, rung: str, message: str = "") -> None:
        super().__init__(message or f"the deadline passed at rung {rung!r}")
        self.rung = rung


class Overloaded(CascadeError):
    """More work waits than the limits allow."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after: float = 0.1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthenticated(CascadeError):
    """The call has no key that holds."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(CascadeError):
    """The key does not allow this."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class ConfigError(CascadeError):
    """`cascade.yaml` is wrong. The message holds file, line, key and the nearest valid key."""

    code = "FAILED_PRECONDITION"
    reason = "CONFIG"


class BundleError(CascadeError):
    """A bundle is refused whole. `file` is the offending file's name inside the bundle."""

    code = "FAILED_PRECONDITION"
    reason = "BUNDLE_REFUSED"

    def __init__(self, file: str, description: str) -> None:
        super().__init__(f"{file}: {description}")
        self.file = file


class TrafficFileError(CascadeError):
    """A traffic file holds bad lines. `lines` maps line numbers (from 1) to reasons."""

    code = "INVALID_ARGUMENT"
    reason = "TRAFFIC_FILE"

    def __init__(self, path: str, lines: dict[int, str], came_of_it: str = "nothing was imported") -> None:
        count = "1 bad line" if len(lines) == 1 else f"{len(lines)} bad lines"
        shown = "\n".join(f"  line {n}: {why}" for n, why in list(lines.items())[:20])
        more = f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
        super().__init__(f"{path}: {count}, {came_of_it}:\n{shown}{more}")
        self.lines = lines


class StoreError(CascadeError):
    """The traffic store could not take or give a record."""

    code = "UNAVAILABLE"
    reason = "STORE"


class WrongDatabase(StoreError):
    """What `store` names is of a newer Cascade, or of something else: to try again would not help."""


class RetrainRefused(CascadeError):
    """Retraining was refused; the serving bundle is untouched. The message says what is missing."""

    code = "FAILED_PRECONDITION"
    reason = "RETRAIN_REFUSED"


class RolloutRefused(CascadeError):
    """A rollout cannot do what was asked in the state it is in. The message says what can be done."""

    code = "FAILED_PRECONDITION"
    reason = "ROLLOUT_REFUSED"
