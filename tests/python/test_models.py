"""Exported models with goldens, through executorch.runtime, all in one process as long as none takes it down."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import model_folders


class Worker:
    def __init__(self):
        self.process = None

    def run(self, folder: Path) -> str:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([sys.executable, Path(__file__).with_name("model_worker.py")], text=True,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)["wrong"]
        return f"the process ended with {self.process.wait()}"

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def worker():
    worker = Worker()
    yield worker
    worker.close()


FOLDERS = model_folders()
if FOLDERS:

    @pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
    def test_model(worker, folder):
        assert worker.run(folder) == ""
