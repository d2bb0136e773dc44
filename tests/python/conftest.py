"""Helpers of all tests: the models to run, and Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "adder.pte"
TOKENIZER = ROOT / "demo" / "tokenizer.json"


def model_folders() -> list[Path]:
    """Folders with model.pte and goldens: in the repository, and beside the clone where they exist."""
    given = os.environ.get("ETWGPU_TEST_MODELS")
    roots = given.split(";") if given is not None else [ROOT / "tests" / "models", ROOT.parent / "shared" / "models"]
    return sorted(model.parent for root in roots if root for model in Path(root).glob("*/model.pte"))


@pytest.fixture
def python():
    """Runs code in a new process, so that neither a crash nor what it loads touches other tests."""

    def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
                              timeout=300, env={**os.environ, **environment})

    return run
