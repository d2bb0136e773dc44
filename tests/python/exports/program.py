"""Exporting a module to a file, loading it through `executorch.runtime`, and judging what it gives."""

import logging
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.patterns import fusable_patterns
from executorch.exir import to_edge_transform_and_lower
from executorch.exir.schema import DelegateCall, Int
from executorch.runtime import Runtime, Verification

import executorch_wgpu  # noqa: F401  registers the delegate

Dim = torch.export.Dim

logging.getLogger().setLevel(logging.WARNING)  # the partitioner turns the root logger up
logging.getLogger("torch.__trace").propagate = False  # thousands of records for every export
for pattern in fusable_patterns.values():  # every export would make these graphs twice, which is most of its time
    pattern.get_graphs_fn = pattern.get_graphs_fn and cache(pattern.get_graphs_fn)

FOLDER = tempfile.TemporaryDirectory(prefix="etwgpu-exports-")


@dataclass
class Export:
    """What to export as one method."""

    module: torch.nn.Module
    inputs: tuple
    dynamic: Any = None
    options: dict = field(default_factory=dict)
    blocked: Sequence = ()
    """Operators that stay on the CPU."""


@dataclass(frozen=True)
class Program:
    path: Path
    delegates: int
    """Delegate calls in the first method."""
    operators: tuple[str, ...]
    """What the first method leaves to the CPU."""
    integers: int
    """Integers among the arguments of the first method's delegate calls."""
    data: Path | None
    """File with the weights that are kept outside of the program."""

    def load(self, method: str = "forward") -> Callable[..., list]:
        program = Runtime.get().load_program(self.path, verification=Verification.Minimal, data_path=self.data)
        loaded = program.load_method(method)
        return lambda *inputs: loaded.execute(list(inputs))


def save(name: str, **methods: Export) -> Program:
    """Exports methods into one program."""
    with torch.no_grad(), warnings.catch_warnings(), torch._dynamo.config.patch(capture_scalar_outputs=True):
        warnings.simplefilter("ignore")  # the exporter's own
        programs = {method: torch.export.export(e.module.eval(), e.inputs, dynamic_shapes=e.dynamic)
                    for method, e in methods.items()}
        partitioners = {
            method: [VulkanPartitioner({"require_dynamic_shapes": e.dynamic is not None, **e.options},
                                       operator_blocklist=list(e.blocked))]
            for method, e in methods.items()
        }
        lowered = to_edge_transform_and_lower(programs, partitioner=partitioners).to_executorch()
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=FOLDER.name))
    lowered.save(str(folder / "model.pte"))
    lowered.write_tensor_data_to_file(str(folder))
    plan = lowered.executorch_program.execution_plan[0]
    steps = [step.instr_args for chain in plan.chains for step in chain.instructions]
    calls = [step for step in steps if isinstance(step, DelegateCall)]
    integers = sum(isinstance(plan.values[arg].val, Int) for call in calls for arg in call.args)
    operators = tuple(operator.name for operator in plan.operators)
    return Program(folder / "model.pte", len(calls), operators, integers, next(folder.glob("*.ptd"), None))


def whole(name: str, module: torch.nn.Module, inputs: tuple, dynamic=None, **more) -> Program:
    """Exports a module that becomes one delegate. The program may copy outputs over inputs that it changes."""
    program = save(name, forward=Export(module, inputs, dynamic, **more))
    assert program.delegates == 1 and set(program.operators) <= {"aten::copy_"}, program
    return program


def error_of(got: torch.Tensor, want: torch.Tensor, absolute=1e-4, relative=1e-3, frobenius=0.0) -> str:
    """What is wrong with a result; nothing when each element is within a tolerance, or the relative norm of all is."""
    if got.shape != want.shape:
        return f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    got, want = got.double(), want.double()
    error = (got - want).abs().nan_to_num(nan=torch.inf)
    off = (error > absolute) & (error > relative * want.abs())
    if not off.any() or error.norm() <= frobenius * want.norm():
        return ""
    return f"{int(off.sum())} of {got.numel()} elements off, largest error {error.max():.3g}"


def assert_close(got: torch.Tensor, want: torch.Tensor, **tolerances: float) -> None:
    wrong = error_of(got, want, **tolerances)
    assert not wrong, wrong


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
