"""What was good last is the same for all processes of a service, whoever dies of them and when."""

import os
import signal
import time
from pathlib import Path

from cascade.security.keys import KeyRing, create_key, read_and_keep, revoke_key
from cascade.security.last_good import LastGood
from tests.soon import comes


def test_what_one_process_puts_another_gets() -> None:
    kept = LastGood()
    assert kept.get() is None
    kept.put(b"first")
    for parts in ((b"\x00\xff" * 500_000, b""), (b"shorter",), (b"shorter",), (b"",)):
        if (pid := os.fork()) == 0:
            kept.put(*parts)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert kept.get() == parts


def test_whoever_is_killed_while_it_writes_leaves_what_was_there_and_holds_nobody_up() -> None:
    kept = LastGood()
    last = b"begin"
    kept.put(last)
    whole = 0
    for round_ in range(30):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            with kept.turn():
                os.write(write, b"x")
                for n in range(10_000):
                    kept.put(b"%d:%d:" % (round_, n) + b"x" * 300_000)
            os._exit(0)
        os.read(read, 1)
        time.sleep(0.001 * round_)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
        found = kept.get()
        assert found is not None
        assert found[0] == last or found[0].startswith(b"%d:" % round_), "never older than what was there"
        whole += found[0] != last
        last = found[0]
        with kept.turn():
            kept.put(last)
    assert whole > 0


def test_one_that_is_stopped_in_its_turn_holds_nobody_up_for_long() -> None:
    kept = LastGood()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        with kept.turn():
            os.write(write, b"x")
            time.sleep(600)
        os._exit(0)
    try:
        os.read(read, 1)
        began = time.monotonic()
        with kept.turn():
            kept.put(b"went on")
        assert time.monotonic() - began < 20
        assert kept.get() == (b"went on",)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_turns_follow_one_another_so_that_what_is_put_last_was_read_last(tmp_path: Path) -> None:
    kept, path = LastGood(), tmp_path / "file"
    path.write_bytes(b"old")
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        with kept.turn():
            raw = path.read_bytes()
            os.write(write, b"x")
            time.sleep(0.5)
            kept.put(raw)
        os._exit(0)
    os.read(read, 1)
    path.write_bytes(b"new")
    with kept.turn():
        kept.put(path.read_bytes())
    os.waitpid(pid, 0)
    assert kept.get() == (b"new",)


def test_a_ring_that_is_made_while_its_file_is_broken_has_the_keys_that_another_read_last(
    tmp_path: Path,
) -> None:
    path, kept = tmp_path / "keys.json", LastGood()
    revoked, old = create_key(path, "acme")
    _, token = create_key(path, "acme")
    read_and_keep(path, kept)
    first = KeyRing(path, kept)
    revoke_key(path, revoked.id)
    assert comes(lambda: first.find(old) is None)
    path.write_text("{half a fi")
    second = KeyRing(path, kept)
    assert second.find(token) is not None
    assert second.find(old) is None, "what is revoked does not come back"
    path.unlink()
    assert KeyRing(path, kept).find(token) is not None
    _, new = create_key(path, "acme")
    assert comes(lambda: second.find(new) is not None)
    assert second.find(token) is None, "the file is what holds once it is good again"
