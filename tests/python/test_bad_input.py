"""Damaged programs and wrong inputs: an error for the caller, one line that says why, and never the end of the process."""

import struct

import pytest

from conftest import DEMO

LOAD = """
import sys, torch, executorch_wgpu
from executorch.extension.pybindings import _C
def run(method, tokens, position):
    try:
        return method([torch.tensor(tokens), torch.tensor(position)])[0]
    except RuntimeError as error:
        print("refused:", error)
try:
    method = _C._load_program(sys.argv[1]).load_method("forward")
except RuntimeError as error:
    print("refused:", error)
"""


def damage(how):
    """The demo program with its delegate's blob damaged by `how(program, start of the blob, start of the graph)`."""
    program = bytearray(DEMO.read_bytes())
    blob = program.index(b"VH00") - 4
    graph = blob + struct.unpack_from("<I", program, blob + 10)[0]
    return how(program, blob, graph) or program


def text(old: bytes, new: bytes):
    return lambda program, blob, graph: program.replace(old, new)


def poke(kind: str, offset: int, value: int):
    return lambda program, blob, graph: struct.pack_into(kind, program, blob + offset, value)


DAMAGED = {
    "cut_in_half": lambda program, blob, graph: program[: len(program) // 2],
    "constants_cut_off": lambda program, blob, graph: program[:-4096],
    "foreign_blob": poke("<4s", 4, b"ABCD"),
    "short_header": poke("<H", 8, 1),
    "graph_beyond_the_end": poke("<I", 14, 0xFFFFFFF0),
    "constants_beyond_the_end": poke("<Q", 22, 1 << 63),
    "foreign_graph": lambda program, blob, graph: struct.pack_into("<4s", program, graph + 4, b"ABCD"),
    "wild_root": lambda program, blob, graph: struct.pack_into("<I", program, graph, 0x7FFFFFF0),
    "unknown_operator": text(b"et_vk.rms_norm.default", b"et_vk.rms_mron.default"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_program(python, tmp_path, name):
    (tmp_path / "damaged.pte").write_bytes(damage(DAMAGED[name]))
    result = python(LOAD, tmp_path / "damaged.pte")
    assert result.returncode == 0, result.stderr
    assert "refused:" in result.stdout, result.stderr


def test_the_operator_is_named(python, tmp_path):
    (tmp_path / "damaged.pte").write_bytes(damage(DAMAGED["unknown_operator"]))
    assert "et_vk.rms_mron.default" in python(LOAD, tmp_path / "damaged.pte").stderr


INPUTS = {
    "tokens_too_large": "[[1000000]], [5]",
    "tokens_negative": "[[-1]], [5]",
    "position_beyond_the_cache": "[[3]], [128]",
    "position_negative": "[[3]], [-1]",
    "position_beyond_32_bits": "[[3]], [1 << 40]",
    "prompt_beyond_the_cache": "[[3, 3, 3]], [126]",
    "prompt_above_the_bound": "[[3] * 128], [0]",
    "wrong_rank": "[3], [5]",
    "wrong_type": "[[3.0]], [5]",
    "two_positions": "[[3]], [5, 6]",
}


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_input(python, name):
    """It is refused, and what comes after is as if it had not been."""
    code = LOAD + f"""
other = _C._load_program(sys.argv[1]).load_method("forward")
for m in (method, other):
    run(m, [[3, 4, 5, 6, 7]], [0])
assert run(method, {INPUTS[name]}) is None
a, b = run(method, [[8]], [5]), run(other, [[8]], [5])
assert torch.equal(a, b), (a, b)
print("as before")
"""
    result = python(code, DEMO)
    assert result.returncode == 0 and "as before" in result.stdout, result.stdout + result.stderr
    assert result.stdout.count("refused:") == 1
