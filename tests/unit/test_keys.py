"""Bearer keys: made once, hashed at rest, rotated while served."""

import errno
import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cascade.errors import ConfigError
from cascade.security import keys as keys_module
from cascade.security.keys import KeyRing, create_key, read_keys, revoke_key
from tests.soon import comes


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rings look at their file more often than twice a second."""
    monkeypatch.setattr(keys_module, "_LOOK_EVERY", 0.005)


def test_only_the_hash_of_a_key_is_stored_and_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, token = create_key(path, "acme", nodes=["intent"], verbs=["decide"])
    assert token not in path.read_text()
    assert token.removeprefix("ck_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing(path).find(token) == key
    assert KeyRing(path).find(token + "x") is None
    assert KeyRing(path).find("") is None


@pytest.mark.usefixtures("often")
def test_a_ring_sees_new_and_revoked_keys_without_being_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, token = create_key(path, "acme")
    ring = KeyRing(path)
    _, other = create_key(path, "other")
    assert comes(lambda: ring.find(other) is not None)
    revoke_key(path, first.id)
    assert comes(lambda: ring.find(token) is None)
    assert ring.find(other) is not None


@pytest.mark.usefixtures("often")
def test_a_file_that_breaks_leaves_the_last_good_keys_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    _, token = create_key(path, "acme")
    ring = KeyRing(path)
    path.write_text("{half a fi")
    assert comes(lambda: "stay in force" in caplog.text)
    assert ring.find(token) is not None


@pytest.mark.parametrize("expires", ["2020-01-01", float("nan"), True])
def test_a_key_whose_end_is_no_time_is_malformed_and_holds_for_nobody(
    tmp_path: Path, expires: object
) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "acme", days=1)
    data = json.loads(path.read_text())
    data["keys"][0]["expires"] = expires
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="is malformed"):
        KeyRing(path)


@pytest.mark.usefixtures("often")
def test_a_file_that_cannot_be_read_to_its_end_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, token = create_key(path, "acme")
    ring = KeyRing(path)
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for a writer, as one waits for a disk that is gone
    began = time.monotonic()
    while time.monotonic() - began < 0.2:
        assert ring.find(token) is not None
    assert time.monotonic() - began < 5.0
    with path.open("w") as writer:  # lets the thread go
        writer.write("{")


@pytest.mark.usefixtures("often")
def test_nobody_looks_at_the_file_of_a_ring_that_nobody_has(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "acme")
    before = {thread for thread in threading.enumerate() if thread.name == "cascade-keys"}
    ring = KeyRing(path)
    (thread,) = {thread for thread in threading.enumerate() if thread.name == "cascade-keys"} - before
    assert thread.is_alive()
    del ring
    thread.join(10)
    assert not thread.is_alive()


def test_a_changed_file_is_read_by_whoever_read_it_before(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, _ = create_key(path, "acme")
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 10001, 10002)
    before = path.stat()
    create_key(path, "other")
    revoke_key(path, key.id)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_who_may_not_give_the_file_back_to_its_owner_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "acme")
    text = path.read_text()

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o600, 1, 1, 1, 9, 9, 0, 0, 0, 0)))
    with pytest.raises(ConfigError, match="as root or as its owner"):
        create_key(path, "other")
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("often")
def test_a_key_revoked_while_the_file_could_not_be_opened_is_refused_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    key, token = create_key(path, "acme")
    ring = KeyRing(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    revoke = (
        "import sys; from cascade.security.keys import *; sys.stdin.readline(); "
        "revoke_key(Path(sys.argv[1]), sys.argv[2])"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", revoke, path, key.id],
        stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no file descriptor is left to this process
        other.communicate("now\n")
        assert other.returncode == 0
        assert comes(lambda: "Too many open files" in caplog.text)
        time.sleep(0.05)
        assert caplog.text.count("stay in force") == 1, "complained of once"
        assert ring.find(token) is not None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert comes(lambda: ring.find(token) is None)


_CHANGES = """
import sys
from pathlib import Path
from cascade.security.keys import create_key, revoke_key
path, name = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for n in range(12):
    revoke_key(path, create_key(path, name)[0].id)
    create_key(path, f"{name}-{n}")
"""


def test_of_commands_at_the_same_time_none_undoes_what_another_did(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    commands = [
        subprocess.Popen([sys.executable, "-c", _CHANGES, path, name], stdin=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    for command in commands:
        assert command.stdin is not None
        command.stdin.write("go\n")
        command.stdin.flush()
    assert [command.wait(60) for command in commands] == [0, 0, 0], "each revoked key was there"
    for command in commands:
        command.communicate()
    assert sorted(key.tenant for key in read_keys(path)) == sorted(
        f"{name}-{n}" for name in "abc" for n in range(12)
    )
    assert list(tmp_path.iterdir()) == [path], "no lock is left behind"


def test_who_waits_too_long_for_another_command_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    key, _ = create_key(path, "acme")
    monkeypatch.setattr(keys_module, "_LOCK_SECONDS", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another command"):
            revoke_key(path, key.id)
    finally:
        os.close(folder)
    assert read_keys(path) == [key]
    revoke_key(path, key.id)


@pytest.mark.usefixtures("often")
def test_a_file_whose_rights_are_mended_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    _, token = create_key(path, "acme")
    ring = KeyRing(path)
    real, looks = keys_module.read_keys, []

    def unreadable(path: Path) -> list[keys_module.Key]:
        looks.append(path)
        raise ConfigError("auth.keys: cannot read it: Permission denied")

    written = json.loads(path.read_text()) | {"keys": []}
    monkeypatch.setattr(keys_module, "read_keys", unreadable)
    path.write_text(json.dumps(written))
    assert comes(lambda: bool(looks))
    assert ring.find(token) is not None
    monkeypatch.setattr(keys_module, "read_keys", real)
    assert comes(lambda: ring.find(token) is None)


def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, token = create_key(path, "acme", days=1)
    ring = KeyRing(path)
    assert ring.find(token) is not None
    data = json.loads(path.read_text())
    data["keys"][0]["expires"] = time.time() - 1
    path.write_text(json.dumps(data))
    assert KeyRing(path).find(token) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{}]}', '{"format": 1, "keys": [3]}',
     '{"format":1,"keys":[{"id":"k","tenant":"t","hash":"h","nodes":[],"verbs":["fly"],"created":0}]}'],
)  # fmt: skip
def test_what_is_no_keys_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"auth\.keys"):
        read_keys(path)


@pytest.mark.parametrize(
    ("tenant", "verbs"),
    [("", ["decide"]), ("a/b", ["decide"]), ("a\nb", ["decide"]), ("x" * 65, ["decide"]), ("a", ["fly"])],
)
def test_tenants_and_verbs_are_checked(tmp_path: Path, tenant: str, verbs: list[str]) -> None:
    with pytest.raises(ConfigError):
        create_key(tmp_path / "keys.json", tenant, verbs=verbs)
    assert not (tmp_path / "keys.json").exists()


def test_a_folder_that_cannot_be_flushed_does_not_lose_the_key_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, flush = tmp_path / "keys.json", os.fsync

    def flushes_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushes_files_only)
    key, token = create_key(path, "acme")
    assert KeyRing(path).find(token) == key
    revoke_key(path, key.id)
    assert read_keys(path) == []
    assert "may undo" in caplog.text


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_folder_that_takes_no_locks_takes_keys_and_one_that_is_broken_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "keys.json"
    monkeypatch.setattr(fcntl, "flock", refuses)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            create_key(path, "acme")
        assert not path.exists()
        return
    key, _ = create_key(path, "acme")
    assert read_keys(path) == [key]
    assert "takes no locks" in caplog.text


def test_a_key_for_nodes_cannot_be_one_for_the_rest_of_the_frontiers_api(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`proxy` is for keys that name none"):
        create_key(tmp_path / "keys.json", "acme", nodes=["n"], verbs=["decide", "proxy"])
    key, _ = create_key(tmp_path / "keys.json", "acme", verbs=["decide", "proxy"])
    assert [key.allows(verb) for verb in ("proxy", "read", "admin")] == [True, False, False]
    admin, _ = create_key(tmp_path / "keys.json", "ops", verbs=["admin"])
    assert not admin.allows("proxy")
