"""The page docs/quickstart-agent.md, run block by block as a new user would."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "quickstart-agent.md").read_text(encoding="utf-8")


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.timeout(600)
def test_by_following_the_page_a_node_goes_live_at_5_percent(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 6
    # A block that fails must not leave services behind that keep the pipe open.
    script = (
        "set -eo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null' EXIT\n"
        + "\n".join(blocks)
        + "\nkill $SERVICE; wait $SERVICE\n"
    )
    # Other tests may hold the usual ports.
    frontier, http, grpc = free_port(), free_port(), free_port()
    script = script.replace("cascade frontier", f"cascade frontier --port {frontier}")
    script = script.replace("cascade serve", f"cascade serve --listen 127.0.0.1:{grpc}")
    script = script.replace("8399", frontier).replace("8080", http)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    out: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            out.append(line)
            if line.startswith("right:") and sum(seen.startswith("right:") for seen in out) == 2:
                break
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    text = "".join(out)
    print(text)
    played = [ast.literal_eval(line) for line in out if line.startswith("{'")]
    assert len(played) == 2, text[-3000:]
    assert played[0] == {"frontier": 1500}, text[-3000:]
    n = sum(played[1].values())
    # 5 % of the calls are offered to the ladder; some of these it leaves to the frontier.
    assert 0 < played[1].get("ladder", 0) < 0.12 * n, text[-3000:]
    right, of = map(int, re.findall(r"right: (\d+) of (\d+)", text)[1])
    assert right / of > 0.97
    assert re.search(r"intent.*5", text)
