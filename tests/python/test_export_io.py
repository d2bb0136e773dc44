"""What crosses the boundary between host and delegate: element types, sizes, integers, odd outputs."""

import pytest
import torch

from exports.attention import GivenCaches, Reference, Shape, caches, given, step_inputs
from exports.program import Dim, assert_close, random, save
from exports.small import any_type, apply, aten, one_delegate

A, B = random(3, 4), random(3, 4, seed=1)
INTEGERS = torch.arange(-6, 6).reshape(3, 4)
ROWS = {0: Dim("rows", min=1, max=8)}


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    """Equal types, sizes and values, floating-point ones to within rounding."""
    assert got.dtype == want.dtype
    relative = 2e-3 if want.dtype == torch.float16 else 1e-6
    assert_close(got, want, absolute=relative, relative=relative)


CASES = {
    "float": (lambda a, b: a * b + a, A, B),
    "half": (lambda a, b: a * b + a, A.half(), B.half()),
    "long": (lambda a, b: a - b * a, INTEGERS, INTEGERS + 3),
    "int": (lambda a, b: a - b * a, INTEGERS.int(), INTEGERS.int() + 3),
    "bool": (lambda a, b: torch.logical_and(a, torch.logical_not(b)), A > 0, B > 0),
    "bool_from_floats": (lambda a, b: torch.logical_or(a > b, a < 0.5), A, B),
    "bool_and_floats": (torch.where, A > 0, A, B),
    "bool_view": (lambda a: a.view(4, 3).unsqueeze(0), A > 0),
    "odd_number_of_bools": (lambda a, b: a > b, A[:, :3].contiguous(), B[:, :3].contiguous()),
    "scalars": (lambda a, b: a * b + a, torch.tensor(3.0), torch.tensor(4.5)),
    "scalar_and_matrix": (lambda a, b: a * b, A, torch.tensor(4.5)),
    "long_scalars": (lambda a, b: a + b, torch.tensor(3), torch.tensor(-4)),
    "number_as_0d_constant": (lambda a, b: a + b * 2, INTEGERS.int(), INTEGERS.int()),
    "full_of_a_number": (lambda a: torch.full_like(a, 7.0) + a, A),
    "no_elements": (lambda a, b: a + b, torch.zeros(0, 4), torch.zeros(0, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_element_types(name):
    function, *inputs = CASES[name]
    (got,) = one_delegate(apply(function, *inputs)).load()(*inputs)
    assert_same(got, function(*inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int8,
                                   torch.uint8, torch.bool], ids=str)
def test_moved_elements_keep_every_type(dtype):
    x = (A * 100 if dtype.is_floating_point else INTEGERS.clamp(min=0) if dtype == torch.uint8 else INTEGERS).to(dtype)
    with any_type(aten.unsqueeze_copy.default):
        program = one_delegate(apply(lambda a: a.unsqueeze(1), x))
    assert_same(program.load()(x)[0], x.unsqueeze(1))


def test_doubles_are_computed_in_single_precision():
    with any_type(aten.add.Tensor):
        program = one_delegate(apply(lambda a, b: a + b, A.double(), B.double()))
    (got,) = program.load()(A.double() / 3, B.double())
    assert_same(got, A.double() / 3 + B)
    assert torch.equal(got, got.float().double())


def test_half_precision_inside_only():
    program = one_delegate(apply(lambda a, b: a * b + a, A, B, options={"force_fp16": True}))
    (got,) = program.load()(A, B)
    assert got.dtype == torch.float32
    assert_close(got, A * B + A, absolute=2e-3, relative=1e-2)
    assert not torch.equal(got, A * B + A)


def test_live_sizes_down_to_none():
    rows = {0: Dim("rows", min=0, max=8)}
    run = one_delegate(apply(lambda a, b: a * b + a, A, B, dynamic=(rows, rows))).load()
    for count in (0, 3, 0, 8, 1, 0):
        a, b = random(count, 4, seed=count), random(count, 4, seed=count + 50)
        assert_same(run(a, b)[0], a * b + a)


LAST = torch.channels_last


@pytest.mark.parametrize("name, function, inputs", [
    ("one", lambda x: x * 2.0 + 1.0, [random(2, 3, 4, 5).to(memory_format=LAST)]),
    ("converted", lambda x: x + 1, [torch.arange(120).reshape(2, 3, 4, 5).to(memory_format=LAST)]),
    ("one_channel", lambda x: x * 2.0, [random(2, 1, 4, 5).to(memory_format=LAST)]),
    ("one_pixel", lambda x: x * 2.0, [random(2, 3, 1, 1).to(memory_format=LAST)]),
    ("to_rows", lambda x: (x * 2.0).contiguous(memory_format=torch.contiguous_format),
     [random(2, 3, 4, 5).to(memory_format=LAST)]),
    ("from_rows", lambda x: (x * 2.0).to(memory_format=LAST), [random(2, 3, 4, 5)]),
], ids=lambda v: v if isinstance(v, str) else "")
def test_channels_last(name, function, inputs):
    (got,) = one_delegate(apply(function, *inputs)).load()(*inputs)
    want = function(*inputs)
    assert_same(got, want)
    strides = [[t.stride(dim) for dim in range(t.dim()) if t.size(dim) > 1] for t in (got, want)]
    assert strides[0] == strides[1]


def test_channels_last_at_live_sizes():
    rows = {2: Dim("rows", min=1, max=8)}
    run = one_delegate(apply(lambda x: x * 2.0, random(2, 3, 4, 5).to(memory_format=LAST), dynamic=(rows,))).load()
    for count in (4, 1, 8, 3):
        x = random(2, 3, count, 5, seed=count).to(memory_format=LAST)
        assert_same(run(x)[0], x * 2)


def test_an_output_that_is_an_input():
    got = one_delegate(apply(lambda a: (a, a + 1.0), A)).load()(A)
    assert_same(got[0], A)
    assert_same(got[1], A + 1)


def test_the_same_output_twice():
    def twice(a):
        b = a + 1.0
        return b, a * 2.0, b

    got = one_delegate(apply(twice, A)).load()(A)
    for one, want in zip(got, twice(A), strict=True):
        assert_same(one, want)


def test_changed_inputs_returned_once_more():
    class Returning(GivenCaches):
        def forward(self, q, k, v, k_cache, v_cache, position):
            out = super().forward(q, k, v, k_cache, v_cache, position)
            return out, k_cache, v_cache, out

    shape = Shape(2, 1, 32)
    inputs, stores = step_inputs(shape, 3, 0), caches(shape, 64)
    reference = Reference(shape, given=stores)
    out = reference.step(*inputs, 9)
    got = given(shape, 64, 8, Returning()).load()(*inputs, *stores, torch.tensor([9]))
    for one, want in zip(got, (reference.k, reference.v, out) * 2, strict=True):
        assert_close(one, want)


def head(a: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    n = count.item()
    torch._check(n >= 1)
    torch._check(n <= a.shape[0])
    return a[:n] * 2.0


def test_an_integer_goes_into_a_delegate():
    program = save("symint", forward=apply(head, A, torch.tensor(2), dynamic=(ROWS, None)))
    assert program.operators == ("aten::_local_scalar_dense",) and program.integers, program
    run = program.load()
    for rows, count in [(3, 2), (3, 3), (8, 1), (8, 8), (3, 1)]:
        a = random(rows, 4, seed=rows)
        assert_same(run(a, torch.tensor(count))[0], a[:count] * 2)


def test_an_integer_comes_out_of_a_delegate():
    program = one_delegate(apply(lambda a: (a * 2.0, a.shape[0] * 3 + 1), A, dynamic=(ROWS,)))
    assert program.integers, program
    run = program.load()
    for rows in (3, 8, 1, 3):
        a = random(rows, 4)
        got, size = run(a)
        assert_same(got, a * 2)
        assert size == 3 * rows + 1


def test_an_integer_from_a_delegate_to_the_cpu():
    function = lambda a: (a + 1.0).view(a.shape[0] * 2, 2) * 3.0  # noqa: E731
    program = save("symint", forward=apply(function, A, dynamic=(ROWS,), blocked=[aten.view_copy.default]))
    assert program.operators == ("executorch_prim::et_view",) and program.integers, program
    run = program.load()
    for count in (3, 8, 1, 7):
        a = random(count, 4, seed=count)
        assert_same(run(a)[0], function(a))
