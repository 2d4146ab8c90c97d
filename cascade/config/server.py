"""`server` and `limits`: the processes that serve, and how large one request may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.config import values
from cascade.config.section import Section
from cascade.config.security import TlsConfig

INT32_MAX = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=INT32_MAX)]


class ServerConfig(Section):
    """`server`: worker processes, and the threads, queue and shutdown of each.

    Of one connection at most `max_streams_per_connection` calls are taken at a time; the client holds back
    the others. Calls that would have to wait in a worker's queue for more than `max_waiting_seconds` at its
    present pace, or behind more than `max_waiting` others, are refused. Where calls come faster than the
    event loop takes them in, or it stands still, they wait in gRPC, which refuses with CANCELLED what comes
    while about `max_unseen` others wait, and ends what waited for `max_unseen_seconds`, whole ones. Callers
    with shorter deadlines than either takes get little of such a worker.

    A worker whose event loop does not come round for `hang_seconds` is killed and replaced; the log says
    where it hung. 0 means never. A process without a parent only writes to stderr where it is.

    `workers` empty means one for each core. `pin_workers` keeps each to one core; empty means that they are
    where there are as many workers as cores, several, and no quota on them. `admin_listen` takes reflection
    and the services that only a key's verb `admin` may call away from the public address, and the page's
    changes of rollouts with them.
    """

    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    pin_workers: bool | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] = 8
    max_waiting: Count = 4096
    max_waiting_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    max_unseen: Annotated[int, Field(ge=100, le=INT32_MAX)] = 4096
    max_unseen_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    max_streams_per_connection: Count = 1000
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    hang_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    max_message_bytes: Annotated[int, Field(ge=1024, le=INT32_MAX)] = 4_194_304
    max_metadata_bytes: Annotated[int, Field(ge=1024, le=1_048_576)] = 8_192
    reflection: bool = True
    admin_listen: values.Listen | None = None
    tls: TlsConfig | None = None


class LimitsConfig(Section):
    """`limits`: how large one request may be."""

    max_text_bytes: Count = 16_384
    max_batch: Count = 1024
    max_messages: Count = 200
    max_context_entries: Count = 32
    max_request_id_bytes: Count = 128
