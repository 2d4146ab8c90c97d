"""What is good last of keys and certificates is there for the configuration that is served."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cascade.errors import ConfigError
from cascade.security.keys import KeyRing, create_key
from cascade.server.kept import Kept


def naming(folder: Path, keys: str) -> Any:
    return SimpleNamespace(base=folder, auth=SimpleNamespace(keys=keys), server=SimpleNamespace(tls=None))


def test_the_running_configuration_keeps_its_last_good_however_many_reloads_are_given_up(
    tmp_path: Path,
) -> None:
    _, token = create_key(tmp_path / "a.json", "acme")
    create_key(tmp_path / "b.json", "acme")
    running, other, kept = naming(tmp_path, "a.json"), naming(tmp_path, "b.json"), Kept()
    kept.read(running)
    for _ in range(5):  # each is given up: the parent says nothing of it here
        kept.read(other)
    (tmp_path / "a.json").write_text("{half a fi")
    assert KeyRing(tmp_path / "a.json", kept.keys(running)).find(token) is not None
    with pytest.raises(ConfigError):  # one that was never read has none
        KeyRing(tmp_path / "a.json", kept.keys(naming(tmp_path, "c.json")))


def test_files_of_ever_new_names_do_not_take_ever_more_descriptors(tmp_path: Path) -> None:
    kept, most = Kept(), 0
    for n in range(60):
        create_key(tmp_path / f"{n}.json", "acme")
        kept.read(naming(tmp_path, f"{n}.json"))
        kept.read(naming(tmp_path, "0.json"))  # the same name again is no further one
        if n == 20:
            most = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) <= most
    last = kept.keys(naming(tmp_path, "0.json"))
    assert last is not None
    assert last.get() is not None
