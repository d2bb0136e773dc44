"""Runs models that it is told on standard input, one folder a line, and answers each with a line of JSON.

A process of its own, so that a model that takes the process down fails alone.
"""

import fnmatch
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
from executorch.runtime import Runtime, Verification

import executorch_wgpu  # noqa: F401  registers the delegate

TOLERANCES = [  # name, absolute, relative, relative Frobenius norm
    # This golden lacks the fp16 rounding of the weights, which activations quantised to 8 bits turn into whole steps: an
    # f64 evaluation of the same blob is 1.5e-2 to 2.1e-2 away from it.
    ("*8da4w*fp16*", 0.0, 0.0, 2.5e-2),
    ("*fp16*", 2e-3, 1e-2, 5e-3),
    ("*int8*", 0.0, 0.0, 2e-2),
    ("*8da4w*", 1e-3, 1e-3, 5e-3),
    ("*", 1e-4, 1e-3, 0.0),
]


def arrays(folder: Path, step: int, kind: str) -> list[np.ndarray]:
    number = re.compile(rf"step{step}_{kind}_(\d+)\.npy")
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := number.fullmatch(path.name))]
    return [np.load(path) for _, path in sorted(found)]


def compare(got: np.ndarray, want: np.ndarray, tolerance) -> tuple[float, str]:
    """Largest error, and what is wrong (nothing when the output passes)."""
    _, absolute, relative, frobenius = tolerance
    got, want = got.astype(np.float64), want.astype(np.float64)
    error = np.nan_to_num(np.abs(got - want), nan=np.inf)
    off = int((~((error <= absolute) | (error <= relative * np.abs(want)))).sum())
    norm = float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))
    worst = float(error.max(initial=0.0))
    fine = np.isfinite(got).all() and (off == 0 or norm <= frobenius)
    return worst, "" if fine else f"{off} of {got.size} elements off, max abs {worst:.3g}, frobenius {norm:.3g}"


def run(folder: Path) -> str:
    """What is wrong first when the recorded steps run in order on one method; nothing when all is right."""
    tolerance = next(row for row in TOLERANCES if fnmatch.fnmatch(folder.name, row[0]))
    program = Runtime.get().load_program(folder / "model.pte", verification=Verification.Minimal)
    method = program.load_method("forward")
    steps = len(list(folder.glob("step*_in_0.npy")))
    for step in range(steps):
        outputs = method.execute([torch.from_numpy(array.copy()) for array in arrays(folder, step, "in")])
        outputs = [torch.as_tensor(output).numpy() for output in outputs]
        for index, want in enumerate(arrays(folder, step, "out")):
            # some programs return their caches too, in any order
            results = [compare(output, want, tolerance) for output in outputs if output.shape == want.shape]
            if not results:
                return f"step {step}, output {index}: shapes {[o.shape for o in outputs]}, expected {want.shape}"
            if wrong := min(results)[1]:
                return f"step {step}, output {index}: {wrong}"
    return "" if steps else "no recorded steps"


for line in sys.stdin:
    start = time.monotonic()
    try:
        wrong = run(Path(line.strip()))
    except Exception as error:  # whatever the runtime raises is this model's failure
        wrong = f"{type(error).__name__}: {error}"
    print(json.dumps({"wrong": wrong, "seconds": time.monotonic() - start}), flush=True)
