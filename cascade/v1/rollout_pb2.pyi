import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STATUS_UNSPECIFIED: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_NONE: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_RUNNING: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_AWAITING_APPROVAL: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_HELD: _ClassVar[RolloutStatus]
    ROLLOUT_STATUS_ROLLED_BACK: _ClassVar[RolloutStatus]
ROLLOUT_STATUS_UNSPECIFIED: RolloutStatus
ROLLOUT_STATUS_NONE: RolloutStatus
ROLLOUT_STATUS_RUNNING: RolloutStatus
ROLLOUT_STATUS_AWAITING_APPROVAL: RolloutStatus
ROLLOUT_STATUS_HELD: RolloutStatus
ROLLOUT_STATUS_ROLLED_BACK: RolloutStatus

class Rollout(_message.Message):
    __slots__ = ("node", "seq", "status", "bundle", "stable", "candidate", "percent", "shares", "automatic", "since", "who", "why", "rolled_back", "judgement", "flags", "flags_problem", "serving", "problem")
    class RolledBackEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    JUDGEMENT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    node: str
    seq: int
    status: RolloutStatus
    bundle: str
    stable: str
    candidate: str
    percent: int
    shares: _containers.RepeatedScalarFieldContainer[int]
    automatic: bool
    since: _timestamp_pb2.Timestamp
    who: str
    why: str
    rolled_back: _containers.ScalarMap[str, str]
    judgement: Judgement
    flags: _containers.RepeatedScalarFieldContainer[str]
    flags_problem: str
    serving: str
    problem: str
    def __init__(self, node: _Optional[str] = ..., seq: _Optional[int] = ..., status: _Optional[_Union[RolloutStatus, str]] = ..., bundle: _Optional[str] = ..., stable: _Optional[str] = ..., candidate: _Optional[str] = ..., percent: _Optional[int] = ..., shares: _Optional[_Iterable[int]] = ..., automatic: bool = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., rolled_back: _Optional[_Mapping[str, str]] = ..., judgement: _Optional[_Union[Judgement, _Mapping]] = ..., flags: _Optional[_Iterable[str]] = ..., flags_problem: _Optional[str] = ..., serving: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class Judgement(_message.Message):
    __slots__ = ("bundle", "action", "reason", "audits", "disagreements", "agreement", "evidence", "needed", "audit_rate")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AUDITS_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    AUDIT_RATE_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    action: str
    reason: str
    audits: int
    disagreements: int
    agreement: float
    evidence: float
    needed: float
    audit_rate: float
    def __init__(self, bundle: _Optional[str] = ..., action: _Optional[str] = ..., reason: _Optional[str] = ..., audits: _Optional[int] = ..., disagreements: _Optional[int] = ..., agreement: _Optional[float] = ..., evidence: _Optional[float] = ..., needed: _Optional[float] = ..., audit_rate: _Optional[float] = ...) -> None: ...

class RolloutEvent(_message.Message):
    __slots__ = ("node", "seq", "time", "who", "what", "why", "bundle")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    node: str
    seq: int
    time: _timestamp_pb2.Timestamp
    who: str
    what: str
    why: str
    bundle: str
    def __init__(self, node: _Optional[str] = ..., seq: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., who: _Optional[str] = ..., what: _Optional[str] = ..., why: _Optional[str] = ..., bundle: _Optional[str] = ...) -> None: ...

class StartRequest(_message.Message):
    __slots__ = ("node", "bundle", "percent", "approval", "force", "who", "why")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    node: str
    bundle: str
    percent: int
    approval: str
    force: bool
    who: str
    why: str
    def __init__(self, node: _Optional[str] = ..., bundle: _Optional[str] = ..., percent: _Optional[int] = ..., approval: _Optional[str] = ..., force: bool = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class StartResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("rollout", "events")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    events: _containers.RepeatedCompositeFieldContainer[RolloutEvent]
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ..., events: _Optional[_Iterable[_Union[RolloutEvent, _Mapping]]] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("node", "force", "who", "why")
    NODE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    node: str
    force: bool
    who: str
    why: str
    def __init__(self, node: _Optional[str] = ..., force: bool = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ApproveResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class HoldRequest(_message.Message):
    __slots__ = ("node", "who", "why")
    NODE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    node: str
    who: str
    why: str
    def __init__(self, node: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class HoldResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("node", "bundle", "who", "why")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    node: str
    bundle: str
    who: str
    why: str
    def __init__(self, node: _Optional[str] = ..., bundle: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[RolloutEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[RolloutEvent, _Mapping]]] = ...) -> None: ...
