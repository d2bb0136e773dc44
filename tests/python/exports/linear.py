"""Linear layers in the formats that the exporter knows, and their results in float64."""

from dataclasses import dataclass
from functools import cache

import torch
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup

from exports.program import Dim, Program, random, whole


@dataclass(frozen=True)
class Linear:
    kind: str
    """`4w`, `8da4w` or `fp32`."""
    inputs: int
    outputs: int
    group: int = 0
    bias: bool = False

    def __str__(self) -> str:
        return f"{self.kind}-{self.inputs}x{self.outputs}-g{self.group}{'-bias' * self.bias}"


@cache
def module(linear: Linear) -> torch.nn.Module:
    layer = torch.nn.Sequential(torch.nn.Linear(linear.inputs, linear.outputs, linear.bias)).eval()
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = random(*parameter.shape, seed=1000 + seed)
    if linear.kind == "4w":
        quantize_(layer, IntxWeightOnlyConfig(torch.int4, PerGroup(linear.group)))
    elif linear.kind == "8da4w":
        quantize_(layer, Int8DynamicActivationIntxWeightConfig(torch.int4, PerGroup(linear.group)))
    return layer


@cache
def static(linear: Linear, rows: int) -> Program:
    return whole("linear", module(linear), (random(rows, linear.inputs),))


@cache
def dynamic(linear: Linear, bound: int) -> Program:
    return whole("linear", module(linear), (random(2, linear.inputs),), ({0: Dim("rows", min=1, max=bound)},))


def reference(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    layer = module(linear)[0]
    weight = layer.weight if linear.kind == "fp32" else layer.weight.dequantize()
    x = rounded_rows(x) if linear.kind == "8da4w" else x.double()
    out = x @ weight.detach().double().T
    return out + layer.bias.detach().double() if linear.bias else out


def rounded_rows(x: torch.Tensor) -> torch.Tensor:
    """What 8 bits keep of each row: 256 even steps over a range that includes zero."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    step = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    zero = (-128 - (low / step).round()).clamp(-128, 127)
    code = ((x / step).round() + zero).clamp(-128, 127)
    return (code - zero).double() * step.double()
