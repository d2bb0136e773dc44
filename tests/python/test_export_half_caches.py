"""Key-value caches stored in half precision (`enable_f16_kv_cache`), against float64 without any rounding."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

import executorch_wgpu
from conftest import DEMO
from exports.attention import AT_ZERO, OwnCaches, Reference, Shape, UpdateOwn, own, rows_up_to, step_inputs
from exports.program import error_of, whole

KEY, VARIABLE = "enable_f16_kv_cache", "ETWGPU_ENABLE_F16_KV_CACHE"
CAPACITY, BOUND = 256, 128
SMALL = Shape(4, 2, 32)
STEPS = [(0, 111), (111, 1), (112, 1), (113, 1), (114, 57), (171, 1), (172, 1), (0, 5), (5, 1), (6, 1)]


@pytest.fixture
def halves():
    """Programs are loaded with the option on."""
    assert executorch_wgpu.get_option(KEY) == "0"  # what everyone gets who asks for nothing
    executorch_wgpu.set_option(KEY, "1")
    yield
    executorch_wgpu.set_option(KEY, "0")


def replay(run, shape: Shape, **tolerances: float) -> list[str]:
    """Prefill, decode, a chunk, decode, and the start again; what is wrong after each step."""
    reference, wrong = Reference(shape, CAPACITY), []
    for seed, (position, rows) in enumerate(STEPS):
        inputs = step_inputs(shape, rows, seed)
        want = reference.step(*inputs, position)
        wrong.append(error_of(run(*inputs, torch.tensor([position]))[0], want, **tolerances))
    return wrong


ROUNDED = {"absolute": 2e-3, "relative": 1e-2}


@pytest.mark.parametrize("shape", [SMALL, Shape(8, 1, 64), Shape(3, 3, 128), Shape(2, 1, 256)], ids=str)
def test_prefill_chunk_and_decode(halves, shape):
    run = own(shape, CAPACITY, BOUND).load()
    assert not any(replay(run, shape, **ROUNDED))
    assert all(replay(run, shape, absolute=1e-6, relative=1e-6))  # the rows were rounded


def test_singles_unless_asked():
    assert not any(replay(own(SMALL, CAPACITY, BOUND).load(), SMALL, absolute=1e-5, relative=1e-4))


def test_a_cache_that_others_read_stays_exact(halves):
    value, want = step_inputs(SMALL, 32, 0)[1], torch.zeros(1, 64, 2, 32)
    run = whole("read", UpdateOwn(1, 64, 2, 32), (value, AT_ZERO)).load()
    want[:, 7:39] = value
    assert torch.equal(run(value, torch.tensor([7]))[0], want)


def test_initial_contents_are_converted(halves):
    module, shape = OwnCaches(SMALL, CAPACITY), SMALL
    for store, seed in ((module.k_cache, 1), (module.v_cache, 2)):
        store.copy_(torch.randn(store.shape, generator=torch.Generator().manual_seed(seed)))
    reference = Reference(shape, given=(module.k_cache, module.v_cache))
    run = whole("filled", module, (*step_inputs(shape, 2, 0), AT_ZERO), (*rows_up_to(BOUND), None)).load()
    for position, rows in [(200, 1), (100, 3), (0, 1)]:
        inputs = step_inputs(shape, rows, position)
        want = reference.step(*inputs, position)
        assert not error_of(run(*inputs, torch.tensor([position]))[0], want, **ROUNDED)


def etwgpu(*arguments: object, value: str | None = None) -> subprocess.CompletedProcess:
    environment = {} if value is None else {VARIABLE: value}
    return subprocess.run([sys.executable, "-m", "etwgpu", *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, **environment})


def state_bytes(path, value: str | None) -> int:
    (delegate,) = json.loads(etwgpu("explain", path, "--json", value=value).stdout)["delegates"]
    return delegate["totals"]["state_bytes"]


def test_half_the_memory_is_planned():
    path = own(SMALL, CAPACITY, BOUND).path
    singles = 2 * CAPACITY * SMALL.kv_heads * SMALL.width * 4
    assert [state_bytes(path, value) for value in (None, "0", "1")] == [singles, singles, singles // 2]
    # Or a compile spec asks, over which the environment wins.
    inputs = (*step_inputs(SMALL, 1, 0), AT_ZERO)
    path = whole("spec", OwnCaches(SMALL, CAPACITY), inputs, options={KEY: True}).path
    assert [state_bytes(path, value) for value in (None, "0")] == [singles // 2, singles]


LOAD = """
import sys, executorch_wgpu
from executorch.runtime import Runtime, Verification
Runtime.get().load_program(sys.argv[1], verification=Verification.Minimal).load_method("forward")
"""


def test_half_the_memory_is_taken_and_the_log_says_so(python):
    path = own(SMALL, 1 << 16, 1).path

    def log(**environment: str) -> str:
        result = python(LOAD, path, **environment)
        return result.stdout + result.stderr

    singles, halves = log(), log(**{VARIABLE: "1"})
    megabytes = [float(re.search(r"([\d.]+) MB of state", text)[1]) for text in (singles, halves)]
    assert megabytes == [33.6, 16.8]
    assert "2 of 2 caches are stored as f16" in halves and "f16" not in singles


def test_explanations_say_why_not():
    value = step_inputs(SMALL, 2, 0)[1]
    path = whole("why", UpdateOwn(1, 64, 2, 32), (value, AT_ZERO)).path
    text = etwgpu("explain", path, value="1").stdout
    assert "0 of 1 caches are stored as f16" in text
    assert re.search(r"%\d+ not: \S+ uses it, too", text)


def test_adapters_without_halves_are_refused():
    refused = etwgpu("explain", own(SMALL, CAPACITY, BOUND).path, "--caps", "webgpu-floor", value="1")
    assert refused.returncode != 0
    assert "enable_f16_kv_cache needs f16 in shaders, which webgpu-floor lacks" in refused.stderr


def test_fused_decoding_of_a_whole_model():
    def generated(value: str) -> str:
        arguments = ("--tokenizer", DEMO.parent / "tokenizer.json", "--prompt", "123+456=")
        result = etwgpu("generate", DEMO, *arguments, value=value)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[0]

    assert generated("0") == generated("1") == "123+456=579"
