"""Several delegates in a method, methods in a program and programs in a process; weights in a file apart."""

import torch

from exports.attention import OwnCaches, Reference, Shape, own, step_inputs
from exports.linear import Linear, module, reference
from exports.program import Dim, Export, assert_close, error_of, random, save
from exports.small import apply, aten

SHAPE = Shape(4, 2, 32)
ROWS = {0: Dim("rows", min=1, max=8)}


def at(position: int) -> torch.Tensor:
    return torch.tensor([position])


def test_cpu_operators_between_delegates():
    function = lambda a, b: ((torch.sigmoid(a + b) * b).abs() + a) * b - a  # noqa: E731
    export = apply(function, random(3, 4), random(3, 4), dynamic=(ROWS, ROWS), blocked=[aten.mul.Tensor])
    program = save("split", forward=export)
    assert program.delegates == 3 and program.operators == ("aten::mul",), program
    run = program.load()
    for rows in (3, 1, 8, 3):
        a, b = random(rows, 4, seed=rows), random(rows, 4, seed=rows + 20)
        assert_close(run(a, b)[0], function(a.double(), b.double()))


class TwoLayers(torch.nn.Module):
    """Two attentions, each with caches of its own that begin with the same zero bytes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = OwnCaches(SHAPE, 64), OwnCaches(SHAPE, 64)

    def forward(self, q, k, v, position):
        return self.second(self.first(q, k, v, position) * 3.0, k, v * 2.0, position)


def two_layers(first: Reference, second: Reference, q, k, v, position: int) -> torch.Tensor:
    return second.step(first.step(q, k, v, position) * 3, k, v * 2, position)


def test_caches_of_two_layers():
    """In one delegate, and in two with a CPU operator between them."""
    dynamic = ({1: Dim("rows", min=1, max=16)},) * 3 + (None,)
    inputs = (*step_inputs(SHAPE, 2, 0), at(0))
    for blocked, delegates in [((), 1), ([aten.mul.Tensor], 2)]:
        program = save("layers", forward=Export(TwoLayers(), inputs, dynamic, blocked=blocked))
        assert program.delegates == delegates, program
        run, layers = program.load(), (Reference(SHAPE, 64), Reference(SHAPE, 64))
        for seed, (position, rows) in enumerate([(0, 5), (5, 1), (6, 1), (7, 16), (23, 1), (24, 1)]):
            q, k, v = step_inputs(SHAPE, rows, seed)
            want = two_layers(*layers, q, k, v, position)
            assert_close(run(q, k, v, at(position))[0], want)
        # control: a module that was not there from the start
        assert error_of(program.load()(q, k, v, at(position))[0], want)


LINEAR = Linear("4w", 128, 40, 32, bias=True)


def test_methods_of_one_program():
    """They share weights in the file and run in any order; each has caches of its own."""
    rows, layer = {0: Dim("rows", min=1, max=32)}, module(LINEAR)
    dynamic = ({1: Dim("s", min=1, max=8)},) * 3 + (None,)
    attention = Export(OwnCaches(SHAPE, 64), (*step_inputs(SHAPE, 2, 0), at(0)), dynamic)
    program = save("methods", many=Export(layer, (random(2, 128),), (rows,)), one=Export(layer, (random(1, 128),)),
                   attend=attention, attend_again=attention)
    many, one, attend_a, attend_b = (program.load(name) for name in ("many", "one", "attend", "attend_again"))
    a, b = Reference(SHAPE, 64), Reference(SHAPE, 64)
    for seed, rows in enumerate((5, 1, 32, 2)):
        x = random(rows, 128, seed=seed)
        assert_close(many(x)[0], reference(LINEAR, x))
        assert_close(one(x[:1])[0], reference(LINEAR, x[:1]))
        for run, caches_of, other in ((attend_a, a, 0), (attend_b, b, 50)):
            inputs = step_inputs(SHAPE, 1, seed + other)
            assert_close(run(*inputs, at(seed))[0], caches_of.step(*inputs, seed))


def test_programs_side_by_side():
    """Loaded at once, run by turns, one of them dropped and loaded again half-way."""
    linear = save("linear", forward=Export(module(LINEAR), (random(2, 128),), ({0: Dim("rows", min=1, max=32)},)))
    product = save("product", forward=apply(lambda a, b: a @ b, random(8, 4), random(4, 8)))
    attention = own(SHAPE, 256, 128)
    run_linear, run_product, run_attention = linear.load(), product.load(), attention.load()
    truth = Reference(SHAPE, 256)
    for seed in range(8):
        if seed == 4:
            run_linear = run_product = None
            run_product, run_linear = product.load(), linear.load()
        x, inputs = random(1 + 4 * seed, 128, seed=seed), step_inputs(SHAPE, 1, seed)
        assert_close(run_linear(x)[0], reference(LINEAR, x))
        assert_close(run_attention(*inputs, at(seed))[0], truth.step(*inputs, seed))
        assert_close(run_product(x[:1, :32].view(8, 4), x[:1, 32:64].view(4, 8))[0],
                     x[:1, :32].view(8, 4).double() @ x[:1, 32:64].view(4, 8).double())


def test_weights_in_a_file_apart():
    export = Export(module(LINEAR), (random(5, 128),), options={"external_constants_max_data_bytes": 1 << 20})
    program = save("external", forward=export)
    assert program.data is not None and program.data.stat().st_size > 128 * 40 / 2
    assert_close(program.load()(random(5, 128))[0], reference(LINEAR, random(5, 128)))
