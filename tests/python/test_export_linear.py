"""Linear layers exported in every format, at fixed and at live numbers of rows."""

import pytest

from exports.linear import Linear, dynamic, reference, static
from exports.program import assert_close, error_of, random

TOLERANCES = {"4w": {}, "fp32": {}, "8da4w": {"absolute": 1e-3, "frobenius": 2e-3}}

LIVE = [
    Linear("4w", 128, 40, 32),
    Linear("4w", 128, 40, 64, bias=True),
    Linear("4w", 256, 12, 128),
    Linear("4w", 36, 20, 36, bias=True),  # inputs are no multiple of 8
    Linear("8da4w", 128, 40, 32),
    Linear("8da4w", 128, 12, 128, bias=True),
    Linear("8da4w", 36, 20, 36),
    Linear("fp32", 128, 40, bias=True),
    Linear("fp32", 35, 13),
]
FIXED = [Linear("4w", 128, 12, 32, bias=True), Linear("8da4w", 128, 12, 32), Linear("fp32", 35, 13, bias=True)]


@pytest.mark.parametrize("linear", LIVE, ids=str)
def test_live_rows(linear):
    run = dynamic(linear, 96).load()
    for rows in (5, 1, 96, 2, 1, 33, 64, 96, 4):
        x = random(rows, linear.inputs, seed=rows)
        assert_close(run(x)[0], reference(linear, x), **TOLERANCES[linear.kind])


@pytest.mark.parametrize("rows", [1, 3, 17, 96])
@pytest.mark.parametrize("linear", FIXED, ids=str)
def test_fixed_rows(linear, rows):
    x = random(rows, linear.inputs, seed=rows)
    assert_close(static(linear, rows).load()(x)[0], reference(linear, x), **TOLERANCES[linear.kind])


def test_the_tolerance_is_finer_than_the_rounding_of_activations():
    x = random(17, 128)
    rounded, exact = (reference(Linear(kind, 128, 12, 32), x) for kind in ("8da4w", "4w"))
    assert error_of(exact, rounded, **TOLERANCES["8da4w"])
