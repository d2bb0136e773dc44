"""Small modules made of a function each."""

from contextlib import ExitStack, contextmanager
from typing import Callable
from unittest.mock import patch

import torch
from executorch.backends.vulkan import utils
from executorch.backends.vulkan.op_registry import OpFeatures, vulkan_supported_ops
from executorch.exir.dialects._ops import ops

from exports.program import Export, Program, save

aten = ops.edge.aten


class Apply(torch.nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def apply(function: Callable, *inputs, dynamic: tuple | None = None, **more) -> Export:
    """A module of one function; `dynamic` has an entry for each input."""
    return Export(Apply(function), inputs, dynamic and (dynamic,), **more)


def one_delegate(export: Export) -> Program:
    program = save("small", forward=export)
    assert (program.delegates, program.operators) == (1, ()), program
    return program


@contextmanager
def any_type(*operators):
    """Lets the partitioner delegate operators for every element type. Its own table has float16, float32, int32, int64
    and bool for those that exist in this delegate; a program may have more types at its boundary all the same."""
    with ExitStack() as stack:
        for features in map(vulkan_supported_ops.get, operators):
            for types in (features.inputs_dtypes, features.outputs_dtypes):
                stack.enter_context(patch.object(types, "vals", [utils.ALL_T]))
        yield


@torch.library.custom_op("etwgpu_test::unknown", mutates_args=())
def unknown(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@unknown.register_fake
def _(x):
    return torch.empty_like(x)


@contextmanager
def unknown_is_delegated():
    features = OpFeatures(inputs_storage=utils.ANY_STORAGE, supports_resize=True)
    with patch.dict(vulkan_supported_ops, {ops.edge.etwgpu_test.unknown.default: features}):
        yield
