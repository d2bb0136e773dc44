"""`etwgpu run`: one method of a program, through ExecuTorch's runtime.

The runtime's binding is used directly: the package executorch.runtime around it loads the whole exporter, for seconds.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from executorch.extension.pybindings import _C as runtime


def parse_input(text: str):
    """An input from a .npy file or from SHAPE:TYPE[:FILL]."""
    if text.endswith(".npy"):
        return torch.from_numpy(np.load(text))
    shape, _, rest = text.partition(":")
    kind, _, fill = rest.partition(":")
    dtype = getattr(torch, kind, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"input {text}: {kind or 'nothing'} is no element type; write e.g. 1x5:int64:3")
    if shape == "scalar":
        return float(fill or 0) if dtype.is_floating_point else int(fill or 0)
    try:
        sizes = [int(size) for size in shape.replace(",", "x").split("x") if size]
    except ValueError:
        raise ValueError(f"input {text}: {shape} is no shape; write e.g. 1x5:int64:3") from None
    if fill == "random":
        return torch.randn(sizes).to(dtype)
    return torch.full(sizes, float(fill or 0)).to(dtype)


def describe(index: int, output) -> str:
    """One line about an output."""
    if not isinstance(output, torch.Tensor):
        return f"output {index}: {output}"
    head = ", ".join(f"{v:.6g}" for v in output.flatten()[:8].tolist())
    more = ", ..." if output.numel() > 8 else ""
    text = f"output {index}: {list(output.shape)} {str(output.dtype).removeprefix('torch.')} [{head}{more}]"
    if output.numel() and output.dtype != torch.bool:
        values = output.double()
        text += f" min {values.min():.6g} max {values.max():.6g} argmax {int(values.argmax())}"
    return text


def run(options) -> int:
    try:
        inputs = [parse_input(text) for text in options.input]
    except (OSError, ValueError) as error:
        print(f"etwgpu run: {error}", file=sys.stderr)
        return 1
    try:
        start = time.perf_counter()
        program = runtime._load_program(options.model, program_verification=runtime.Verification.Minimal,
                                        data_path=options.data)
        method = program.load_method(options.method)
        print(f"loaded in {time.perf_counter() - start:.3f} s")
        outputs = []
        for _ in range(max(1, options.repeat)):
            start = time.perf_counter()
            outputs = method(inputs)
            print(f"ran in {(time.perf_counter() - start) * 1e3:.3f} ms")
    except RuntimeError as error:
        print(f"etwgpu run: {error}; the log above says more", file=sys.stderr)
        return 1
    for index, output in enumerate(outputs):
        print(describe(index, output))
        if options.save:
            folder = Path(options.save)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"out_{index}.npy", np.asarray(output))
    return 0
