"""Peers that serve a model over gRPC, with the same linear model behind them.

`python -m benchmarks.serving_peers` makes an environment for each peer under build/peers, installs it there
(the peers' pins and ours conflict), asks each server one question and compares the answer with the linear
rung's. `python -m benchmarks.serving` measures those that lie there. What cannot be installed or does not
start is printed with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks import serving_peer_servers as programs
from benchmarks.linear_model import LinearModel
from benchmarks.serving_load import SERVER_CORE, free_port, server
from cascade.features import Featurizer
from cascade.manifest import read_manifest
from cascade.pointer import serving_version

ROOT = Path(__file__).resolve().parents[1]
VENVS = ROOT / "build" / "peers"
INFER = "/inference.GRPCInferenceService/ModelInfer"
BENTO = "/bentoml.grpc.v1.BentoService/Call"
NOT_FOUND, UNAVAILABLE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE
OURS = ("numpy", "onnxruntime", "jsonschema-rs")
"""What the linear rung's files need beside the peer."""


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes
    ----------
    name : str
    package : str
        What pip calls it, which names its environment too.
    extra : str
        What of it is installed: `[grpc]`.
    pins : tuple of str
        Older versions of others that it needs and does not ask for.
    compared : bool
        Whether it counts for "the best of them"; else it is printed beside.
    path, shape
        The method that is called, and the shape of its input where it is an Open Inference one.
    """

    name: str
    package: str
    command: Callable[[Path, Path, list[int]], list[str]]
    extra: str = ""
    pins: tuple[str, ...] = ()
    compared: bool = True
    path: str = INFER
    shape: tuple[int, ...] = (1,)

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return VENVS / self.package / "bin" / "python"

    def request(self, text: str) -> bytes:
        """Give the message that asks for one text's label."""
        return bento_request(text) if self.path == BENTO else infer_request(text, self.shape)


def _mlserver(folder: Path, venv: Path, ports: list[int]) -> list[str]:
    (folder / "linear_model.py").write_text(programs.MLSERVER)
    (folder / "model-settings.json").write_text('{"name": "linear", "implementation": "linear_model.Linear"}')
    (folder / "settings.json").write_text(
        f'{{"host": "127.0.0.1", "grpc_port": {ports[0]}, "http_port": {ports[1]}, '
        f'"metrics_port": {ports[2]}, "parallel_workers": 0, "debug": false}}'
    )
    return [str(venv / "bin" / "mlserver"), "start", str(folder)]


def _kserve(folder: Path, venv: Path, ports: list[int]) -> list[str]:
    (folder / "serve.py").write_text(programs.KSERVE)
    return [str(venv / "bin" / "python"), str(folder / "serve.py"), *map(str, ports)]


def _bentoml(folder: Path, venv: Path, ports: list[int]) -> list[str]:
    (folder / "linear_service.py").write_text(programs.BENTOML)
    # Without --production there is one process, as there is one of the others.
    command = [
        str(venv / "bin" / "bentoml"),
        "serve-grpc",
        "linear_service:svc",
        "--working-dir",
        str(folder),
    ]
    return [*command, "--host", "127.0.0.1", "--port", str(ports[0]), "--development"]


def _pytriton(folder: Path, venv: Path, ports: list[int]) -> list[str]:
    (folder / "serve.py").write_text(programs.PYTRITON)
    (packages,) = venv.glob("lib/python3*/site-packages")
    (packages / "sitecustomize.py").write_text(programs.SITECUSTOMIZE)
    return [str(venv / "bin" / "python"), str(folder / "serve.py"), *map(str, ports)]


def _tritonserver(folder: Path, venv: Path, ports: list[int]) -> list[str]:
    """Run the server that pytriton brings, which has the Python backend, without pytriton."""
    model = folder / "repository" / "linear"
    (model / "1").mkdir(parents=True)
    (packages,) = venv.glob("lib/python3*/site-packages")
    paths = [str(folder), str(packages)]  # the backend's own interpreter does not take them from PYTHONPATH
    (model / "1" / "model.py").write_text(programs.TRITON_PYTHON_BACKEND.format(paths=paths))
    (model / "config.pbtxt").write_text(programs.TRITON_CONFIG)
    home = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    stub = home / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (*(home / "backends" / "python").iterdir(), *stub.iterdir()):
        (backend / path.name).symlink_to(path)
    return [
        str(home / "bin" / "tritonserver"),
        "--model-repository", str(folder / "repository"), "--backend-directory", str(folder / "backends"),
        "--grpc-address", "127.0.0.1", "--http-address", "127.0.0.1", "--grpc-port", str(ports[0]),
        "--http-port", str(ports[1]), "--metrics-port", str(ports[2]), "--allow-gpu-metrics=false",
    ]  # fmt: skip


PEERS = {
    "mlserver": Peer("MLServer", "mlserver", _mlserver),
    "kserve": Peer("KServe SDK", "kserve", _kserve),
    # Its gRPC side does not import with protobuf 5, and does not answer with the grpcio of today.
    "bentoml": Peer(
        "BentoML", "bentoml", _bentoml, extra="[grpc]", pins=("protobuf<5", "grpcio<1.63"), path=BENTO
    ),
    "pytriton": Peer("pytriton", "nvidia-pytriton", _pytriton, shape=(1, 1)),
    "tritonserver": Peer(
        "tritonserver, Python backend", "nvidia-pytriton", _tritonserver, compared=False, shape=(1, 1)
    ),
}


def installed(peer: Peer) -> str | None:
    """Give the version of a peer that is installed under build/peers, or None."""
    if not peer.python.exists():
        return None
    # With what the linear rung needs, or it is not there.
    code = (
        "import jsonschema_rs, numpy, onnxruntime; from importlib.metadata import version; "
        f"print(version({peer.package!r}))"
    )
    done = subprocess.run([str(peer.python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def install(peer: Peer) -> str:
    """Install a peer unless it is; gives why it cannot be, empty where it is there."""
    if installed(peer):
        return ""
    if not peer.python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peer.python.parents[1])], check=True)
    pip = [str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, f"{peer.package}{peer.extra}", *peer.pins, *OURS], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"cannot be installed: {last_line(done.stderr)}"
    return "" if installed(peer) else "is not there although pip installed it"


@contextmanager
def serving(peer: Peer, folder: Path, bundle: Path) -> Iterator[int]:
    """Run a peer with the linear model; gives its gRPC port.

    Raises
    ------
    RuntimeError
        It does not start, or does not answer.
    """
    folder.mkdir(parents=True)
    labels = list(read_manifest(bundle)["contract"]["labels"])
    (folder / "peer_model.py").write_text(
        programs.MODEL.format(root=str(ROOT), bundle=str(bundle), labels=labels)
    )
    ports = [free_port() for _ in range(3)]
    venv = peer.python.parents[1]
    env = {
        "PYTHONPATH": str(folder), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "True", "PYTRITON_NO_TELEMETRY": "1",
        "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
    }  # fmt: skip
    with server(peer.command(folder, venv, ports), ports[0], SERVER_CORE, env):
        yield ports[0]


def ask(peer: Peer, port: int, text: str, seconds: float = 60) -> bytes:
    """Ask a peer for a text's label and give the answer's bytes. Raises RuntimeError where it has none."""
    same: Callable[[bytes], bytes] = bytes
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(peer.path, same, same)
        end = time.monotonic() + seconds
        while True:  # some listen before their model is there
            try:
                return bytes(call(peer.request(text), timeout=seconds, wait_for_ready=True))
            except grpc.RpcError as error:
                if time.monotonic() > end or error.code() not in (NOT_FOUND, UNAVAILABLE):
                    raise RuntimeError(f"{error.code().name}: {error.details()}") from None
            time.sleep(0.2)


def right_answer(bundle: Path, text: str) -> str:
    """Give the label of the linear rung itself."""
    model = LinearModel(bundle / "linear.onnx", read_manifest(bundle)["contract"]["labels"])
    return model.labels[int(model.probabilities(Featurizer.load(bundle / "features.npy")([text])).argmax())]


def trouble(peer: Peer, port: int, bundle: Path, text: str) -> str:
    """Ask one question; gives what is wrong with the answer, empty where it is the linear rung's."""
    wanted = right_answer(bundle, text)
    try:
        got = ask(peer, port, text)
    except RuntimeError as error:
        return f"does not answer: {last_line(str(error))}"
    return "" if wanted.encode() in got else f"answers {got[:80]!r} and not {wanted!r}"


def infer_request(text: str, shape: tuple[int, ...] = (1,)) -> bytes:
    """Give an Open Inference `ModelInferRequest` with one text, by hand: its protocol is not ours."""
    contents = _field(8, text.encode())  # bytes_contents
    tensor = _field(1, b"text") + _field(2, b"BYTES") + _field(3, bytes(shape)) + _field(5, contents)
    return _field(1, b"linear") + _field(5, tensor)


def bento_request(text: str) -> bytes:
    """Give BentoML's `Request` with one text: the API's name, and a StringValue."""
    return _field(1, b"label") + _field(8, _field(1, text.encode()))


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def last_line(text: str) -> str:
    """Give the last line of an output that says what went wrong."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    said = [line for line in lines if re.search("error|Error|not ", line)] or lines
    return said[-1][:200] if said else "it says nothing"


def main() -> None:
    """Install the peers, start each, and ask it one question."""
    version = serving_version(ROOT / "models", "support-intent")
    assert version is not None
    bundle = ROOT / "models" / "support-intent" / version
    text = "where is my refund for the order of last week"
    for key, peer in PEERS.items():
        why = install(peer)
        if not why:
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    with serving(peer, Path(scratch) / key, bundle) as port:
                        why = trouble(peer, port, bundle, text)
                except RuntimeError as error:
                    why = f"does not start: {last_line(str(error))}"
        print(f"{peer.name} {installed(peer) or ''}: {why or 'serves the linear model'}", flush=True)
    from benchmarks import serving_tracer  # it takes its environment's place from here

    why = serving_tracer.install()
    try:
        why = why or f"{serving_tracer.rate(2):.0f} texts/s"
    except RuntimeError as error:
        why = str(error)
    print(f"TRACER: {why}", flush=True)


if __name__ == "__main__":
    main()
