"""The nearest peer, TRACER, in batches: its `predict_batch` behind its encoder, in a loop in one process.

TRACER takes embeddings, so an encoder is part of its way. It gets ours, MiniLM as int8 in ONNX, which is
faster than the torch model that its documentation uses. It is fitted once on the sample, to its default
agreement of 0.90, because at 0.95 it certifies nothing there; it lies under build/peers from then on. It has
no server that takes batches over gRPC; nothing is counted for one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.serving_load import SERVER_CORE, pinned
from benchmarks.serving_peers import OURS, ROOT, VENVS, last_line

PACKAGE = "tracer-llm"
RECORDS = 3000
NODE = "support-intent"

PROGRAM = """
import json, os, sys, time
root, folder, traffic, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
sys.path.insert(0, root)
from pathlib import Path
import numpy as np
import tracer
from tracer.config import FitConfig
from cascade.encoder import Encoder

encoder = Encoder(Path(root) / "models" / "encoders" / "all-MiniLM-L6-v2")
records = [json.loads(line) for line in open(traffic, encoding="utf-8")][: int(sys.argv[5])]
artifacts = Path(folder) / "router"
if not artifacts.exists():
    traces = Path(folder) / "traces.jsonl"
    traces.write_text("".join(
        json.dumps({"input": r["text"], "teacher": r["label"]}) + "\\n" for r in records
    ))
    partial = Path(folder) / "router.partial"
    # Gradient boosting is left out as its documentation advises for many classes: it fits for hours.
    config = FitConfig(verbose=False, skip_candidates=("gbt",))
    tracer.fit(traces, partial, embeddings=np.asarray(encoder([r["text"] for r in records])), config=config)
    os.rename(partial, artifacts)
embedder = tracer.Embedder.from_callable(lambda texts: np.asarray(encoder(texts)))
router = tracer.load_router(artifacts, embedder=embedder)
texts = ([r["text"] for r in records] * 2)[-256:]
router.predict_batch(texts)
done, began = 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    handled = router.predict_batch(texts)["handled"]
    done += len(texts)
print(json.dumps({"rate": done / (time.perf_counter() - began), "handled": float(np.mean(handled))}))
"""


def install() -> str:
    """Install it unless it is; gives why it cannot be, empty where it is there."""
    python = VENVS / PACKAGE / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, PACKAGE, *OURS, "tokenizers"], capture_output=True, text=True, check=False)
    return f"cannot be installed: {last_line(done.stderr)}" if done.returncode else ""


def rate(seconds: float) -> float:
    """Give texts a second. The first call fits, which takes minutes.

    Raises
    ------
    RuntimeError
        It is not installed, or fails.
    """
    python = VENVS / PACKAGE / "bin" / "python"
    if not python.exists():
        raise RuntimeError("not installed: python -m benchmarks.serving_peers")
    traffic = ROOT / "examples" / "sample" / f"{NODE}.jsonl"
    arguments = [str(ROOT), str(python.parents[1]), str(traffic), str(seconds), str(RECORDS)]
    done = subprocess.run(
        [*pinned(SERVER_CORE), str(python), "-c", PROGRAM, *arguments],
        capture_output=True, text=True, check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}, cwd=Path("/"),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])
