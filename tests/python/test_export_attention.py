"""Attention exported from torch.ops.llama and torch.ops.et_vk, against float64: one graph for prefill and decode."""

import re

import pytest
import torch

from executorch.backends.vulkan.patterns import fusable_patterns

from exports.attention import (AT_ZERO, AttendOnly, FixedPosition, GivenCaches, Layers, OwnCaches, Plain, Reference,
                               Shape, UpdateAndAttend, UpdateGiven, UpdateOwn, caches, decode, given, own, rows_up_to,
                               softmax_average, step_inputs)
from exports.program import Dim, assert_close, error_of, random, whole

SHAPES = [Shape(4, 2, 32), Shape(4, 1, 64), Shape(3, 3, 128), Shape(2, 1, 256)]  # grouped, one and all KV heads
SMALL = SHAPES[0]
CAPACITY, BOUND = 256, 128
HALF = {"absolute": 2e-3, "relative": 1e-2}


def at(position: int) -> torch.Tensor:
    return torch.tensor([position])


def positions(chunks: tuple) -> list[tuple[int, int]]:
    """(position, rows) of chunks that follow one another."""
    return [(sum(chunks[:i]), rows) for i, rows in enumerate(chunks)]


def errors(run, reference, shape, steps, scale=1.0, skipped=(), pinned=None) -> list[str]:
    """What is wrong after each step. `run` is not told of skipped steps, and is told `pinned` as every position."""
    wrong = []
    for seed, (position, rows) in enumerate(steps):
        q, k, v = step_inputs(shape, rows, seed, scale)
        want = reference.step(q, k, v, position)
        if seed not in skipped:
            wrong.append(error_of(run(q, k, v, at(position if pinned is None else pinned))[0], want))
    return wrong


REPLAYS = {
    "chunk": positions((111, 1, 1, 1, 57, 1, 1)),
    "short_chunks": positions((17, 1, 1, 5, 1, 64, 1)),
    "decode_first": positions((1, 1, 128, 1, 125)),
    "resize": [(0, 128), (128, 1), (129, 37), (0, 128), (128, 1)],
}


@pytest.mark.parametrize("name", REPLAYS)
def test_one_graph_serves_any_rows_at_any_position(name):
    program, steps = own(SMALL, CAPACITY, BOUND), REPLAYS[name]
    assert not any(errors(program.load(), Reference(SMALL, CAPACITY), SMALL, steps))
    # control: without one step's rows the later ones must be wrong
    last = max(i for i, (position, _) in enumerate(steps) if position == 0)
    assert errors(program.load(), Reference(SMALL, CAPACITY), SMALL, steps[last:], skipped=[0])[-1]


def test_layers_begin_with_what_their_caches_hold():
    full, empty = caches(SMALL, 64), (torch.zeros(1, 64, SMALL.kv_heads, SMALL.width),) * 2
    stores = [full, empty, tuple(cache.flip(1) for cache in full)]
    run = whole("layers", Layers(stores), (*step_inputs(SMALL, 2, 0), AT_ZERO), (*rows_up_to(32), None)).load()

    def through(layers, q, k, v, position):
        for layer in layers:
            q = layer.step(q, k, v, position)
        return q

    layers, control = ([Reference(SMALL, given=store) for store in some] for some in (stores, [empty] * 3))
    for seed, (position, rows) in enumerate([(40, 1), (41, 1), (20, 9)]):
        step = (*step_inputs(SMALL, rows, seed), position)
        out, want = run(*step[:3], at(position))[0], through(layers, *step)
        assert_close(out, want)
        assert error_of(out, through(control, *step))  # as if all had been empty


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_own_caches_accumulate(shape):
    program, steps = own(shape, CAPACITY, BOUND), positions((5,) + (1,) * 7)
    assert not any(errors(program.load(), Reference(shape, CAPACITY), shape, steps))
    # control: a module loaded anew for each step remembers nothing
    fresh = errors(lambda *inputs: program.load()(*inputs), Reference(shape, CAPACITY), shape, steps)
    assert not fresh[0] and all(fresh[1:])


def test_loads_of_one_program_do_not_share_caches():
    program, steps = own(SMALL, CAPACITY, BOUND), positions((3, 1, 1))
    first, second = program.load(), program.load()
    a, b = Reference(SMALL, CAPACITY), Reference(SMALL, CAPACITY)
    for seed, (position, rows) in enumerate(steps):
        for run, reference, offset in ((first, a, 0), (second, b, 50)):
            inputs = step_inputs(SMALL, rows, seed + offset)
            assert_close(run(*inputs, at(position))[0], reference.step(*inputs, position))


def test_the_position_is_live():
    program, steps = own(SMALL, CAPACITY, BOUND), positions((1,) * 8)
    assert not any(errors(program.load(), Reference(SMALL, CAPACITY), SMALL, steps))
    # control: a position that stays where it was
    pinned = errors(program.load(), Reference(SMALL, CAPACITY), SMALL, steps, pinned=0)
    assert not pinned[0] and all(pinned[1:])


def test_scores_of_any_size():
    """Scores reach beyond 180 both ways, so exp of a plain score would overflow or vanish."""
    scale = 60**0.5
    q, k, _ = step_inputs(SMALL, 111, 0, scale)
    scores = q[0].transpose(0, 1) @ k[0].transpose(0, 1).repeat_interleave(2, 0).mT * SMALL.width**-0.5
    assert scores.max() > 180 and scores.min() < -180
    run, reference = own(SMALL, CAPACITY, BOUND).load(), Reference(SMALL, CAPACITY)
    assert not any(errors(run, reference, SMALL, REPLAYS["chunk"], scale))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_given_caches_come_back(shape):
    run, capacity = given(shape, 160, 64).load(), 160
    for seed, (position, rows) in enumerate([(0, 17), (17, 1), (100, 5), (96, 64), (159, 1), (0, 1)]):
        inputs, stores = step_inputs(shape, rows, seed), caches(shape, capacity)
        reference = Reference(shape, given=stores)
        want = reference.step(*inputs, position)
        k_cache, v_cache, out = run(*inputs, *stores, at(position))
        assert torch.equal(k_cache, reference.k) and torch.equal(v_cache, reference.v)
        assert_close(out, want)


def test_caches_threaded_through_the_host():
    """Each step is given what the one before returned; control: what the first one was given."""
    run, start, reference = given(SMALL, CAPACITY, BOUND).load(), caches(SMALL, CAPACITY), Reference(SMALL, CAPACITY)
    reference.k, reference.v = (c.clone() for c in start)
    threaded = start
    for seed, (position, rows) in enumerate(positions((9,) + (1,) * 6)):
        inputs = step_inputs(SMALL, rows, seed)
        want = reference.step(*inputs, position)
        *following, out = run(*inputs, *threaded, at(position))
        stale = run(*inputs, *start, at(position))[2]
        threaded = following
        assert_close(out, want)
        assert bool(error_of(stale, want)) == (seed > 0)


EDGES = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513]


@pytest.mark.parametrize("shape, capacity, contexts", [
    *((shape, 520, EDGES) for shape in SHAPES),
    (Shape(2, 1, 32), 8200, [*EDGES, 1023, 1024, 1025, 2047, 2048, 2049, 4096, 4097, 8191, 8192, 8193]),
], ids=lambda v: str(v) if isinstance(v, (Shape, int)) else "")
def test_decode_at_the_edges_of_splits(shape, capacity, contexts):
    run, stores = decode(shape, capacity).load(), caches(shape, capacity)
    for context in contexts:
        inputs = step_inputs(shape, 1, context)
        want = Reference(shape, given=stores).step(*inputs, context - 1)
        wrong = error_of(run(*inputs, *stores, at(context - 1))[2], want)
        assert not wrong, f"context {context}: {wrong}"


@pytest.mark.parametrize("position, rows", [(0, 16), (0, 1), (37, 1), (63, 1), (20, 44)])
def test_position_and_rows_fixed_at_export(position, rows):
    inputs, stores = step_inputs(SMALL, rows, 1), caches(SMALL, 64)
    reference = Reference(SMALL, given=stores)
    want = reference.step(*inputs, position)
    k_cache, v_cache, out = whole("fixed", FixedPosition(position), (*inputs, *stores)).load()(*inputs, *stores)
    assert torch.equal(k_cache, reference.k) and torch.equal(v_cache, reference.v)
    assert_close(out, want)


@pytest.mark.parametrize("options", [{"scale": 0.3}, {"causal": False}, {"causal": False, "scale": 0.05}], ids=str)
def test_scale_and_causality(options):
    run, stores = given(SMALL, 64, 32, GivenCaches(**options)).load(), caches(SMALL, 64)
    for seed, (position, rows) in enumerate([(0, 9), (9, 1), (20, 32)]):
        inputs = step_inputs(SMALL, rows, seed)
        out = run(*inputs, *stores, at(position))[2]
        assert_close(out, Reference(SMALL, given=stores).step(*inputs, position, **options))
    assert error_of(out, Reference(SMALL, given=stores).step(*inputs, position))  # the option makes a difference


def test_cache_updates_and_attention_traced_apart():
    run, stores = given(SMALL, 64, 32, UpdateAndAttend()).load(), caches(SMALL, 64)
    for seed, (position, rows) in enumerate([(0, 9), (9, 1), (20, 32)]):
        inputs, reference = step_inputs(SMALL, rows, seed), Reference(SMALL, given=stores)
        want = reference.step(*inputs, position)
        k_cache, v_cache, out = run(*inputs, *stores, at(position))
        assert torch.equal(k_cache, reference.k) and torch.equal(v_cache, reference.v)
        assert_close(out, want)


ROWS = {1: Dim("rows", min=1, max=32)}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("cast, tolerances", [(torch.Tensor.float, {}), (torch.Tensor.half, HALF)],
                         ids=["float", "half"])
def test_attention_over_filled_caches(monkeypatch, cast, tolerances, causal):
    monkeypatch.delitem(fusable_patterns, "causal_sdpa")
    k, v = map(cast, caches(SMALL, 64))
    inputs = (cast(step_inputs(SMALL, 2, 0)[0]), k, v, at(0))
    run = whole("filled", AttendOnly(causal), inputs, (ROWS, None, None, None)).load()
    for seed, (position, rows) in enumerate([(0, 9), (9, 1), (20, 32), (63, 1)]):
        q = cast(step_inputs(SMALL, rows, seed)[0])
        seen = slice(position, position + rows)
        reference = Reference(SMALL, given=(k, v))
        want = reference.step(q, k[:, seen], v[:, seen], position, causal=causal)
        assert_close(run(q, k, v, at(position))[0], want, **tolerances)


def halves(tensors: tuple) -> tuple:
    return tuple(t.half() for t in tensors)


def test_half_precision_own_caches():
    inputs = (*halves(step_inputs(SMALL, 2, 0)), AT_ZERO)
    run = whole("half", OwnCaches(SMALL, CAPACITY).half(), inputs, (*rows_up_to(BOUND), None)).load()
    reference = Reference(SMALL, CAPACITY)
    for seed, (position, rows) in enumerate(REPLAYS["chunk"]):
        q, k, v = halves(step_inputs(SMALL, rows, seed))
        assert_close(run(q, k, v, at(position))[0], reference.step(q, k, v, position), **HALF)


def test_half_precision_given_caches():
    inputs = (*halves(step_inputs(SMALL, 2, 0)), *halves(caches(SMALL, 64)), AT_ZERO)
    run = whole("half", GivenCaches(), inputs, (*rows_up_to(32), None, None, None)).load()
    for seed, (position, rows) in enumerate([(0, 17), (17, 1), (20, 32), (63, 1)]):
        q, k, v = halves(step_inputs(SMALL, rows, seed))
        stores = halves(caches(SMALL, 64))
        reference = Reference(SMALL, given=stores)
        want = reference.step(q, k, v, position)
        k_cache, v_cache, out = run(q, k, v, *stores, at(position))
        assert torch.equal(k_cache, reference.k) and torch.equal(v_cache, reference.v)
        assert_close(out, want, **HALF)


def test_half_precision_update():
    store, value = caches(SMALL, 64)[0].half(), step_inputs(SMALL, 32, 0)[1].half()
    run = whole("half", UpdateGiven(), (value[:, :2], store, AT_ZERO), (ROWS, None, None)).load()
    for position, rows in [(0, 5), (63, 1), (32, 32)]:
        want = store.clone()
        want[:, position : position + rows] = value[:, :rows]
        assert torch.equal(run(value[:, :rows], store, at(position))[0], want)


@pytest.mark.parametrize("mask", [None, (1, 1, 5, 9), (2, 4, 5, 9)])
def test_half_precision_without_a_cache(mask):
    inputs = halves(plain_inputs(2, 4, 5, 9, mask))
    want = softmax_average(*inputs[:3], bias=inputs[3].double() if mask else 0.0)
    assert_close(whole("half", Plain(), inputs).load()(*inputs)[0], want, **HALF)


@pytest.mark.parametrize("name", ["with a cache", "without"])
def test_head_dimensions_that_are_no_multiples_of_four(capfd, name):
    if name == "without":
        program = whole("odd", Plain(), tuple(random(1, 4, 5, 30, seed=i) for i in range(3)))
    else:
        program = own(Shape(4, 2, 30), 16, 8)
    with pytest.raises(RuntimeError, match="0x:?30"):
        program.load()
    assert "head dimension 30; it must be a multiple of 4" in "".join(capfd.readouterr())


def test_update_of_a_given_cache():
    store, value = caches(SMALL, 64)[0], step_inputs(SMALL, 32, 0)[1]
    run = whole("update", UpdateGiven(), (value[:, :2], store, at(0)), (ROWS, None, None)).load()
    for position, rows in [(0, 5), (63, 1), (32, 32), (0, 1)]:
        want = store.clone()
        want[:, position : position + rows] = value[:, :rows]
        assert torch.equal(run(value[:, :rows], store, at(position))[0], want)


def test_updates_of_an_own_cache_accumulate():
    value, want = step_inputs(SMALL, 32, 0)[1], torch.zeros(1, 64, 2, 32)
    program = whole("update", UpdateOwn(1, 64, 2, 32), (value[:, :2], at(0)), (ROWS, None))
    run = program.load()
    for position, rows in [(0, 5), (63, 1), (32, 17), (5, 1), (6, 1), (7, 1)]:
        want[:, position : position + rows] = value[:, :rows]
        out = run(value[:, :rows], at(position))[0]
        assert torch.equal(out, want)
    # control: a fresh module has only the last row
    assert not torch.equal(program.load()(value[:, :1], at(7))[0], want)


def plain_inputs(batch: int, heads: int, rows: int, context: int, mask: tuple | None) -> tuple:
    q = random(batch, heads, rows, 32)
    k, v = (random(batch, heads, context, 32, seed=seed) for seed in (1, 2))
    return (q, k, v) if mask is None else (q, k, v, random(*mask, seed=3))


@pytest.mark.parametrize("batch, mask", [
    (1, None), (2, None), (1, (1, 4, 5, 9)), (2, (2, 4, 5, 9)), (1, (1, 1, 5, 9)), (2, (1, 1, 5, 9)), (2, (2, 1, 5, 9)),
    (1, (1, 4, 1, 9)), (1, (1, 1, 1, 9)),
])
def test_attention_without_a_cache(batch, mask):
    inputs = plain_inputs(batch, 4, 5, 9, mask)
    want = softmax_average(*inputs[:3], bias=inputs[3].double() if mask else 0.0)
    assert_close(whole("plain", Plain(), inputs).load()(*inputs)[0], want)


def test_attention_without_a_cache_at_live_sizes():
    rows, context = Dim("rows", min=1, max=32), Dim("context", min=1, max=64)
    dynamic = ({2: rows}, {2: context}, {2: context}, {2: rows, 3: context})
    run = whole("plain", Plain(), plain_inputs(1, 4, 5, 9, (1, 1, 5, 9)), dynamic).load()
    for s, c in [(5, 9), (1, 64), (32, 64), (32, 1), (3, 33)]:
        inputs = plain_inputs(1, 4, s, c, (1, 1, s, c))
        assert_close(run(*inputs)[0], softmax_average(*inputs[:3], bias=inputs[3].double()))


@pytest.mark.parametrize("position, rows", [(CAPACITY, 1), (CAPACITY - 6, 7), (-1, 1), (1 << 31, 1), (1 << 40, 1)])
def test_rows_beyond_the_cache_leave_it_as_it_was(position, rows):
    run, reference = own(SMALL, CAPACITY, BOUND).load(), Reference(SMALL, CAPACITY)
    assert not any(errors(run, reference, SMALL, [(0, 128), (128, 122)]))
    with pytest.raises(RuntimeError) as refusal:
        run(*step_inputs(SMALL, rows, 77), at(position))
    assert re.search(r"0x:?12\b", str(refusal.value)), refusal.value
    assert not any(errors(run, reference, SMALL, [(250, 1), (251, 5)]))
