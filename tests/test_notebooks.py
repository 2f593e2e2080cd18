"""Every notebook runs from top to bottom, in a kernel of this interpreter, and says nothing false.

A notebook asserts its own numbers, so a run without an error is the whole test. Nothing is written
into the repository: the kernel runs in a temporary folder, and so do Jupyter's own files.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():  # jupyter_core and its friends warn about their own future
    warnings.simplefilter("ignore", DeprecationWarning)
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
SECONDS = 60

# Jupyter's own machinery: event loops and message signing, nothing of ours.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:(jupyter|nbformat|nbclient|zmq|traitlets)"
    ),
    pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*missing an id field"),
]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A private Jupyter home: no kernel that the user has installed can stand in for this one.
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    notebook = jupytext.read(script)
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=4 * SECONDS,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    start = time.perf_counter()
    client.execute()
    assert time.perf_counter() - start < 4 * SECONDS  # SECONDS alone on an idle machine
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no figure was shown"
