"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from cascade.client.channel import DEFAULT_OPTIONS, Metadata, Options
from cascade.client.credentials import PemFile, channel_credentials, direct_options, identify
from cascade.client.lanes import Lane, Lanes
from cascade.client.questions import Chat, Question, batch_request_of, outcome_request_of, request_of
from cascade.client.results import Decision, DecisionError, decision_of, error_of, result_of
from cascade.client.retry_budget import RetryBudget
from cascade.client.tries import Tries
from cascade.v1 import decision_pb2 as pb


class AsyncClient:
    """Asks a Cascade server from asyncio. Make it where its event loop runs.

    Parameters
    ----------
    target : str
        `host:port`, `unix:path` or any gRPC name.
    timeout : float, optional
        Seconds that a call may take, where it says nothing else. None: as long as it takes.
    metadata : sequence of (key, value)
        Sent with every call.
    channel_options : sequence of (key, value)
        gRPC channel arguments, over the defaults.
    api_key : str, optional
        A key of `cascade key create`, sent with every call. In plain text to this machine itself only, or
        with `tls=False`.
    ca : path, optional
        PEM file of the authority that signed the server's certificate; the channel is encrypted then. For a
        certificate with another name than `target`'s host, `channel_options` takes
        `("grpc.ssl_target_name_override", name)`.
    cert, key : path, optional
        PEM files: the client's own certificate and its private key, where the server has `client_ca`.
        A file that is renewed is read again: the calls after it go over a new connection.
    tls : bool, optional
        True: TLS also where no file is given, trusting the public authorities that gRPC brings along. False:
        plain text, also for a key; for where a service mesh or a tunnel encrypts.
    credentials : grpc.ChannelCredentials, optional
        In place of `ca`, `cert`, `key` and `tls`: any that gRPC knows.

    Raises
    ------
    ValueError
        The arguments do not fit together, a file is not PEM, or the key would go out in plain text.
    OSError
        A file cannot be read.

    Examples
    --------
    >>> async with AsyncClient("127.0.0.1:50051", timeout=1.0) as client:  # doctest: +SKIP
    ...     decision = await client.decide(node="support-intent", text="where is my card?")
    ...     await client.report_outcome(decision_id=decision.decision_id, label="card_arrival")
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
        channel_options: Options = (),
        api_key: str | None = None,
        ca: PemFile | None = None,
        cert: PemFile | None = None,
        key: PemFile | None = None,
        tls: bool | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        options = [*DEFAULT_OPTIONS, *direct_options(target), *channel_options]
        _, self._metadata = identify(target, metadata, api_key, ca, cert, key, tls, credentials)

        def make() -> grpc.aio.Channel:
            used = credentials or channel_credentials(tls, ca, cert, key)
            if used is None:
                return grpc.aio.insecure_channel(target, options)
            return grpc.aio.secure_channel(target, used, options)

        self._lanes = Lanes([file for file in (ca, cert, key) if file is not None], make)
        self._timeout = timeout
        self._budget = RetryBudget()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls that run are cancelled."""
        for channel in self._lanes.end():
            await channel.close()

    async def decide(
        self,
        *,
        node: str,
        text: str | None = None,
        messages: Chat | None = None,
        context: Mapping[str, str] | None = None,
        request_id: str = "",
        choices: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Decision:
        """Decide one input; the arguments are those of `Question`.

        With a `request_id`, a call whose server goes away under it is tried again within its time, up to
        four times; so is a batch of which every question has one. A call that gRPC refuses at the server,
        because this connection has no room or too much waits, is made again, for some 25 s at most; not where
        many of this client's calls are refused.

        Raises
        ------
        DecisionError
            There is no decision.
        """
        question = Question(node, text, messages, context or {}, request_id, choices)
        return decision_of(await self._call("Decide", request_of(question), timeout))

    async def batch_decide(
        self,
        *,
        node: str,
        texts: Sequence[str] | None = None,
        inputs: Sequence[str | Chat] | None = None,
        context: Mapping[str, str] | None = None,
        request_ids: Sequence[str] | None = None,
        choices: Sequence[str] = (),
        timeout: float | None = None,
    ) -> list[Decision | DecisionError]:
        """Decide many inputs of one node. Each item is a decision or its error, in the inputs' order.

        Parameters
        ----------
        texts : sequence of str, optional
            The inputs, where all are plain texts.
        inputs : sequence of str or chats, optional
            The inputs, where some are chats.

        Raises
        ------
        DecisionError
            The call failed as a whole.
        """
        request = batch_request_of(node, texts, inputs, context, request_ids, choices)
        response = await self._call("BatchDecide", request, timeout)
        return [result_of(result) for result in response.results]

    async def stream_decide(
        self, questions: Iterable[Question] | AsyncIterable[Question], *, timeout: float | None = None
    ) -> AsyncIterator[Decision | DecisionError]:
        """Decide a stream of questions. Answers come as they are ready; `request_id` pairs them.

        Raises
        ------
        DecisionError
            The call failed as a whole.
        """
        lane = self._lanes.enter()
        call = lane.stub.StreamDecide(
            _requests(questions), timeout=self._seconds(timeout), metadata=self._metadata
        )
        try:
            async for response in call:
                yield result_of(response.result)
        except grpc.RpcError as error:
            raise error_of(error) from None
        finally:
            call.cancel()
            await self._leave(lane)

    async def report_outcome(
        self,
        *,
        decision_id: str,
        label: str | None = None,
        output: Any = None,
        right: bool | None = None,
        time: datetime | float | None = None,
        timeout: float | None = None,
    ) -> str:
        """Report what was right of a decision, and give the outcome's id. It is on disk then.

        Raises
        ------
        DecisionError
            The report was not taken.
        """
        request = outcome_request_of(decision_id, label, output, right, time)
        return str((await self._call("ReportOutcome", request, timeout)).outcome_id)

    async def _leave(self, lane: Lane[grpc.aio.Channel]) -> None:
        for channel in self._lanes.leave(lane):
            await channel.close()

    def _seconds(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    async def _call(self, method: str, request: Any, timeout: float | None) -> Any:
        tries = Tries(request, self._seconds(timeout), self._budget)
        while True:
            lane = self._lanes.enter()
            try:
                ask = getattr(lane.stub, method)
                answer = await ask(request, timeout=tries.left(), metadata=self._metadata)
                self._budget.answered()
                return answer
            except grpc.RpcError as error:
                wait = tries.pause(error)
            finally:
                await self._leave(lane)
            await asyncio.sleep(wait)


async def _requests(
    questions: Iterable[Question] | AsyncIterable[Question],
) -> AsyncIterator[pb.StreamDecideRequest]:
    if isinstance(questions, AsyncIterable):
        async for question in questions:
            yield pb.StreamDecideRequest(request=request_of(question))
    else:
        for question in questions:
            yield pb.StreamDecideRequest(request=request_of(question))
