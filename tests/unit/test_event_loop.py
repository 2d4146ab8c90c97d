"""The event loop of the gRPC server goes round once for all events that gRPC's poller has brought."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest

from cascade.event_loop import BackgroundLoop, fastest_loop, once_for_all, wakes_grpc

uvloop = pytest.importorskip("uvloop")


def test_a_reader_is_called_once_for_all_bytes_and_finds_one() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        found: list[bytes] = []
        read = once_for_all(ours, lambda loop: found.append(ours.recv(9)))
        for sent in (b"1", b"111", b"1" * 5000):
            theirs.sendall(sent)
            read("loop")
        assert found[:2] == [b"1", b"1"]
        assert len(found[2]) == 9  # of more than are looked at, what is left comes next
        while ours.recv(4096, socket.MSG_DONTWAIT)[4095:]:
            pass
        read("loop")
        assert len(found) == 3  # nothing was there


def test_of_two_loops_that_look_at_once_one_finds_the_events() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    did = {(mine, looked): threading.Event() for mine in (0, 1) for looked in (False, True)}
    found: list[bytes] = []

    class Slow:
        """Waits, once it has looked or taken something, for the other one to do so, too."""

        def __init__(self, mine: int) -> None:
            self.mine = mine

        def recv(self, size: int, flags: int = 0) -> bytes:
            there = ours.recv(size, flags)
            did[self.mine, bool(flags)].set()
            did[1 - self.mine, bool(flags)].wait(0.3)
            return there

    with ours, theirs:
        theirs.sendall(b"111")
        slow: list[Any] = [Slow(0), Slow(1)]
        readers = [once_for_all(each, lambda: found.append(ours.recv(1))) for each in slow]
        threads = [threading.Thread(target=reader) for reader in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [b"1"]


def test_what_is_called_does_not_lose_its_errors() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"11")

        def fails() -> None:
            raise ValueError("told")

        with pytest.raises(ValueError, match="told"):
            once_for_all(ours, fails)()


def test_the_reader_of_grpc_is_known_for_one() -> None:
    """Where this fails, grpcio has changed: see whether its poller sends a byte for each event still."""
    readers: list[Callable[..., object]] = []

    class Loop(uvloop.Loop):  # type: ignore[misc, name-defined]
        def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
            readers.append(callback)
            super().add_reader(fd, callback, *args)

    async def serve() -> None:
        server = grpc.aio.server()
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await server.stop(None)

    loop = Loop()
    loop.run_until_complete(serve())
    assert [wakes_grpc(reader) for reader in readers] == [True]
    assert not wakes_grpc(partial(print))
    assert not wakes_grpc(print)


def test_the_loop_of_the_server_goes_round_once_for_all_bytes_of_grpc() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = fastest_loop()
    rounds: list[bytes] = []

    class Poller:
        def _handle_events(self) -> None:
            rounds.append(ours.recv(1))

    async def read() -> None:
        loop.add_reader(ours, partial(Poller()._handle_events))
        theirs.sendall(b"123")
        while not rounds:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0.001)
        loop.remove_reader(ours)

    with ours, theirs:
        loop.run_until_complete(read())
    loop.close()
    assert rounds == [b"3"]


def test_calls_side_by_side_are_all_answered() -> None:
    """An event whose byte was taken with others must not be forgotten."""
    background = BackgroundLoop("test-grpc", fastest_loop)

    async def start() -> tuple[grpc.aio.Server, int]:
        async def echo(request: bytes, context: object) -> bytes:
            return request

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
                return grpc.unary_unary_rpc_method_handler(echo)

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = background.start(start()).result(30)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        asked = [str(number).encode() for number in range(1000)]
        futures = [call.future(one, timeout=30) for one in asked]
        assert [future.result() for future in futures] == asked
    background.start(server.stop(None)).result(30)


def test_another_reader_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = fastest_loop()
    found: list[bytes] = []

    async def read() -> None:
        done = asyncio.Event()

        def reader() -> None:
            found.append(ours.recv(9))
            done.set()

        loop.add_reader(ours, reader)
        theirs.sendall(b"123")
        await asyncio.wait_for(done.wait(), 10)
        loop.remove_reader(ours)

    with ours, theirs:
        loop.run_until_complete(read())
    loop.close()
    assert found == [b"123"]


ENDS = """
import asyncio, ctypes, sys
from cascade.event_loop import GRPC

async def wake_later():
    asyncio.get_running_loop().call_later(1.0, print)

libc = ctypes.CDLL(None)
libc.on_exit(libc.sleep, None)  # called with the exit code: three seconds from Python's end to the process's
GRPC.start(wake_later()).result()
sys.exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on_exit is glibc's")
def test_a_loop_that_would_wake_after_the_interpreter_is_gone_does_not() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS], check=False, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"", b"")


def test_a_process_whose_loop_hangs_ends_all_the_same() -> None:
    hangs = (
        "from cascade.event_loop import GRPC; import threading;"
        "GRPC.running.call_soon_threadsafe(threading.Event().wait)"
    )
    ended = subprocess.run([sys.executable, "-c", hangs], check=False, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_who_needs_the_loop_after_its_end_is_told_so() -> None:
    late = """
import asyncio, atexit

@atexit.register
def ends_after_the_loop():
    try:
        GRPC.start(asyncio.sleep(0)).result(60)
    except RuntimeError as error:
        print(error)

from cascade.event_loop import GRPC
"""
    for used in ("", "GRPC.start(asyncio.sleep(0)).result()"):
        ended = subprocess.run(
            [sys.executable, "-c", late + used], check=False, capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "the interpreter ends" in ended.stdout
