"""Attention modules, their programs, and attention in float64."""

from functools import cache
from typing import NamedTuple

import executorch.backends.vulkan.custom_ops_lib  # noqa: F401  registers torch.ops.et_vk
import torch
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers torch.ops.llama

from exports.program import Dim, Program, random, whole


class Shape(NamedTuple):
    heads: int
    kv_heads: int
    width: int

    def __str__(self) -> str:
        return f"{self.heads}-{self.kv_heads}-{self.width}"


def step_inputs(shape: Shape, rows: int, seed: int, scale: float = 1.0) -> tuple:
    """Random q, k and v; `scale` spreads the scores, not the values."""
    q = random(1, rows, shape.heads, shape.width, seed=3 * seed) * scale
    k = random(1, rows, shape.kv_heads, shape.width, seed=3 * seed + 1) * scale
    return q, k, random(1, rows, shape.kv_heads, shape.width, seed=3 * seed + 2)


def caches(shape: Shape, capacity: int) -> tuple:
    size = (1, capacity, shape.kv_heads, shape.width)
    return random(*size, seed=1001), random(*size, seed=1002)


def checked_position(position: torch.Tensor, rows: int, capacity: int):
    """The position as a symbolic integer; torch.ops.llama.update_cache exports only when it is known to fit."""
    start = position[0].item()
    torch._check(start >= 0)
    torch._check(start + rows <= capacity)
    return start


def attend(q, k, v, k_cache, v_cache, start, causal=True, scale=None):
    return torch.ops.llama.sdpa_with_kv_cache(q, k, v, k_cache, v_cache, start, q.shape[1], None, 0.0, causal, scale)


class OwnCaches(torch.nn.Module):
    """The caches are buffers of the module, so they live in the delegate."""

    def __init__(self, shape: Shape, capacity: int):
        super().__init__()
        size = (1, capacity, shape.kv_heads, shape.width)
        self.register_buffer("k_cache", torch.zeros(size))
        self.register_buffer("v_cache", torch.zeros(size))

    def forward(self, q, k, v, position):
        return attend(q, k, v, self.k_cache, self.v_cache, position[0].item())


class Layers(torch.nn.Module):
    """Layers of attention with caches of their own, which are not empty at first."""

    def __init__(self, stores: list[tuple]):
        super().__init__()
        self.count = len(stores)
        for number, (k_cache, v_cache) in enumerate(stores):
            self.register_buffer(f"k_cache{number}", k_cache.clone())
            self.register_buffer(f"v_cache{number}", v_cache.clone())

    def forward(self, q, k, v, position):
        start = position[0].item()
        for number in range(self.count):
            q = attend(q, k, v, getattr(self, f"k_cache{number}"), getattr(self, f"v_cache{number}"), start)
        return q


class GivenCaches(torch.nn.Module):
    """The caches are inputs. The exporter makes inputs that change outputs as well, before the module's own."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, q, k, v, k_cache, v_cache, position):
        return attend(q, k, v, k_cache, v_cache, position[0].item(), **self.options)


class FixedPosition(torch.nn.Module):
    def __init__(self, position: int):
        super().__init__()
        self.position = position

    def forward(self, q, k, v, k_cache, v_cache):
        return attend(q, k, v, k_cache, v_cache, self.position)


class UpdateAndAttend(torch.nn.Module):
    """What the LLM exporter traces; the Vulkan passes make one operator of it."""

    def forward(self, q, k, v, k_cache, v_cache, position):
        start = checked_position(position, q.shape[1], k_cache.shape[1])
        torch.ops.llama.update_cache(k, k_cache, start)
        torch.ops.llama.update_cache(v, v_cache, start)
        return torch.ops.llama.custom_sdpa(q, k_cache, v_cache, start, None, 0.0, True, None)


class AttendOnly(torch.nn.Module):
    """Attention over caches that somebody else fills. The exporter's pass that fuses custom_sdpa with cache updates
    fails where there are none; the tests take it away."""

    def __init__(self, causal: bool = True):
        super().__init__()
        self.causal = causal

    def forward(self, q, k_cache, v_cache, position):
        start = checked_position(position, q.shape[1], k_cache.shape[1])
        return torch.ops.llama.custom_sdpa(q, k_cache, v_cache, start, None, 0.0, self.causal, None)


class UpdateGiven(torch.nn.Module):
    def forward(self, value, store, position):
        torch.ops.llama.update_cache(value, store, checked_position(position, value.shape[1], store.shape[1]))
        return store


class UpdateOwn(torch.nn.Module):
    def __init__(self, *size: int):
        super().__init__()
        self.register_buffer("store", torch.zeros(size))

    def forward(self, value, position):
        torch.ops.llama.update_cache(value, self.store, checked_position(position, value.shape[1], self.store.shape[1]))
        return self.store * 1.0


class Plain(torch.nn.Module):
    """Attention without a cache."""

    def forward(self, q, k, v, mask=None):
        return torch.ops.et_vk.sdpa(q, k, v, mask, None)


AT_ZERO = torch.tensor([0])


def rows_up_to(bound: int) -> tuple:
    """Dynamic sizes of q, k and v."""
    rows = Dim("rows", min=1, max=bound) if bound > 1 else None
    return ({1: rows},) * 3 if rows else (None,) * 3


@cache
def own(shape: Shape, capacity: int, bound: int) -> Program:
    return whole("own", OwnCaches(shape, capacity), (*step_inputs(shape, 2, 0), AT_ZERO), (*rows_up_to(bound), None))


def given(shape: Shape, capacity: int, bound: int, module: torch.nn.Module | None = None) -> Program:
    inputs = (*step_inputs(shape, min(bound, 2), 0), *caches(shape, capacity), AT_ZERO)
    return whole("given", module or GivenCaches(), inputs, (*rows_up_to(bound), None, None, None))


@cache
def decode(shape: Shape, capacity: int) -> Program:
    """One row at a live position, with the caches given."""
    return given(shape, capacity, 1)


def softmax_average(q, k, v, allowed=None, bias=0.0, scale=None) -> torch.Tensor:
    """Attention in float64 over `[..., heads, rows, width]`."""
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1) @ v


class Reference:
    """Attention in float64 over caches of its own."""

    def __init__(self, shape: Shape, capacity: int = 0, given: tuple | None = None):
        size = (1, capacity, shape.kv_heads, shape.width)
        self.group = shape.heads // shape.kv_heads
        self.k, self.v = (c.clone() for c in given) if given else (torch.zeros(size), torch.zeros(size))

    def step(self, q, k, v, position: int, causal=True, scale=None) -> torch.Tensor:
        rows, end = q.shape[1], position + q.shape[1]
        self.k[:, position:end], self.v[:, position:end] = k, v
        keys, values = (c[:, :end].transpose(1, 2).repeat_interleave(self.group, 1) for c in (self.k, self.v))
        allowed = torch.arange(end) <= position + torch.arange(rows)[:, None] if causal else None
        return softmax_average(q.transpose(1, 2), keys, values, allowed, scale=scale).transpose(1, 2)
