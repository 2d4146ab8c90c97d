"""What a client refuses before it has said anything to anyone."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from cascade.client import AsyncClient, Client, DecisionError
from cascade.client.credentials import stays_here
from cascade.client.probe import probe
from cascade.rollout.calls import RolloutCalls
from tests.certificates import write_certificates

FAR = "cascade.example:50051"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    write_certificates(folder)
    return folder


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051", "127.8.0.1", "localhost:1", "LOCALHOST:1", "[::1]:50051", "::1", "unix:/run/x", "unix:///x",
        "unix-abstract:x", "dns:localhost:1", "dns:///localhost:1", "dns://8.8.8.8/localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.2:1", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1",
    ],
)  # fmt: skip
def test_this_machine_is_known_by_its_names(target: str) -> None:
    assert stays_here(target)


@pytest.mark.parametrize(
    "target",
    [
        FAR, "10.0.0.1:50051", "0.0.0.0:50051", "[2001:db8::1]:1", "2001:db8::1", "dns:///cascade.example:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1", "localhost.example:1", "127.0.0.1.example:1", "xds:///localhost", "",
        "dns:cascade.example:1#/localhost", "ipv4:10.0.0.1:1?/127.0.0.1:1",
    ],
)  # fmt: skip
def test_whoever_may_be_elsewhere_is_not_this_machine(target: str) -> None:
    assert not stays_here(target)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_goes_to_another_machine_encrypted_or_where_somebody_says_that_it_is(
    kind: type[Client] | type[AsyncClient], certificates: Path
) -> None:
    async def make() -> None:  # an AsyncClient is made where an event loop runs
        with pytest.raises(ValueError, match=r"plain text.*\(ca\).*tls=True.*tls=False") as caught:
            kind(FAR, api_key="secret")
        assert "secret" not in str(caught.value)
        for how in ({"tls": True}, {"tls": False}, {"ca": certificates / "ca.pem"}):
            kind(FAR, api_key="secret", **how)
        kind("127.0.0.1:1", api_key="secret")
        kind(FAR)

    asyncio.run(make())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": "secret\n"}, "api_key is empty, or holds"),
        ({"api_key": "secrét"}, "api_key is empty, or holds"),
        ({"api_key": "a", "metadata": [("Authorization", "Bearer b")]}, "not both"),
        ({"cert": "client.pem"}, "belong together"),
        ({"key": "client.key"}, "belong together"),
        ({"ca": "ca.pem", "tls": False}, "switched off"),
        ({"ca": "client.key"}, "holds no CERTIFICATE"),
        ({"ca": "broken.pem"}, r"broken\.pem cannot be used"),
        ({"cert": "client.pem", "key": "ca.pem"}, "holds no PRIVATE KEY"),
        (
            {"cert": "client.pem", "key": "server.key"},
            r"client\.pem and its key .*server\.key cannot be used",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason(
    certificates: Path, given: dict[str, str], why: str
) -> None:
    (certificates / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    files = {k: certificates / v if k in ("ca", "cert", "key") else v for k, v in given.items()}
    with pytest.raises(ValueError, match=why) as caught:
        Client("127.0.0.1:1", **files)
    assert "secr" not in str(caught.value)


def test_credentials_of_ones_own_take_the_place_of_files_and_count_as_encrypted(certificates: Path) -> None:
    import grpc

    own = grpc.ssl_channel_credentials()
    Client(FAR, api_key="secret", credentials=own).close()
    with pytest.raises(ValueError, match="take the place"):
        Client(FAR, credentials=own, ca=certificates / "ca.pem")


def test_a_private_key_that_is_given_by_its_content_is_not_shown(certificates: Path) -> None:
    content = (certificates / "client.key").read_text()
    with pytest.raises(ValueError, match="not by its content") as caught:
        Client("127.0.0.1:1", cert=certificates / "client.pem", key=content)
    assert content.splitlines()[1] not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nobody\.pem"):
        Client("127.0.0.1:1", ca=tmp_path / "nobody.pem")


def test_a_probe_with_half_of_a_pair_does_not_ask_in_plain_text(certificates: Path, tmp_path: Path) -> None:
    shutil.copy(certificates / "client.pem", tmp_path)
    with pytest.raises(ValueError, match="belong together"):
        probe("127.0.0.1:1", cert=tmp_path / "client.pem")


async def ask_in_a_loop(target: str) -> None:
    async with AsyncClient(target, api_key="secret", timeout=5) as client:
        with pytest.raises(DecisionError, match="UNAVAILABLE"):
            await client.decide(node="n", text="t")


def test_what_stays_on_this_machine_is_shown_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    import grpc

    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        target = f"localhost:{closed.getsockname()[1]}"
        closed.close()  # nobody is there: whoever asks hears so, but for the proxy, which says nothing
        with Client(target, api_key="secret", timeout=5) as client, pytest.raises(DecisionError) as caught:
            client.decide(node="n", text="t")
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        asyncio.run(ask_in_a_loop(target))
        with RolloutCalls(target, "secret", timeout=5) as calls, pytest.raises(grpc.RpcError):
            calls.status("n")
        assert probe(target, seconds=5) == "UNAVAILABLE"
        proxy.settimeout(0.2)
        with pytest.raises(TimeoutError):
            proxy.accept()
