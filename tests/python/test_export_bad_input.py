"""Wrong inputs and damaged files of exported programs, each in a process of its own, since nothing may end it.

Every refusal has an ExecuTorch error code, and the next good call works.
"""

import hashlib
import re
import shutil
import struct
import textwrap

import torch

from exports.attention import Shape, own
from exports.linear import Linear, dynamic, module
from exports.program import Dim, Export, random, save
from exports.small import apply, one_delegate, unknown, unknown_is_delegated

NOT_SUPPORTED, INVALID_ARGUMENT, INVALID_EXTERNAL_DATA, INVALID_COMPATIBILITY = 0x10, 0x12, 0x24, 0x30
SHAPE, LINEAR = Shape(4, 2, 32), Linear("4w", 64, 20, 32)

CHILD = """
import re, struct, sys, torch, executorch_wgpu
from executorch.runtime import Runtime, Verification

def load(path, data=None):
    program = Runtime.get().load_program(path, verification=Verification.Minimal, data_path=data)
    method = program.load_method("forward")

    def run(*inputs):
        return method.execute(list(inputs))

    run.program = program  # a method does not keep the bytes of its program alive
    return run

def code(function, *arguments):
    try:
        function(*arguments)
    except RuntimeError as error:
        return int(re.search("(?:error|error:) 0x:?([0-9a-f]+)", str(error))[1], 16)
    return 0

def equal(got, want):
    assert torch.equal(got, want), (got, want)

"""


def child(python, code: str, *arguments) -> str:
    """Runs code that ends well; its log."""
    result = python(CHILD + textwrap.dedent(code) + "\nprint('the end')", *arguments)
    assert result.returncode == 0 and "the end" in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout + result.stderr


def test_wrong_tensors(python):
    """ExecuTorch itself refuses some, with a code of its own choice."""
    child(python, """
        run = load(sys.argv[1])
        before = run(torch.ones(5, 64))[0].clone()
        wrong = [torch.ones(64), torch.ones(1, 5, 64), torch.ones(97, 64), torch.ones(5, 63), torch.ones(64, 5),
                 torch.ones(5, 64).double(), torch.ones(5, 64).long()]
        for x in wrong:
            assert code(run, x) != 0, (x.shape, x.dtype)
            equal(run(torch.ones(5, 64))[0], before)
    """, dynamic(LINEAR, 96).path)


def test_rows_outside_of_a_table(python):
    rows = {0: Dim("rows", min=1, max=16)}
    program = one_delegate(Export(torch.nn.Embedding(7, 8), (torch.tensor([1, 2]),), (rows,)))
    log = child(python, f"""
        run = load(sys.argv[1])
        before = run(torch.tensor([0, 6, 3]))[0].clone()
        for row in (7, 1 << 20, -1, 1 << 40, -(1 << 63)):
            assert code(run, torch.tensor([0, row, 3])) == {INVALID_ARGUMENT}, row
            equal(run(torch.tensor([0, 6, 3]))[0], before)
    """, program.path)
    assert "row 1048576 is outside an embedding table of 7 rows" in log, log


def test_rows_beyond_a_cache(python):
    """A second load that never saw the wrong calls stands for what should have been."""
    child(python, f"""
        def call(run, rows, position):
            torch.manual_seed(position)
            q, k, v = (torch.randn(1, rows, heads, {SHAPE.width}) for heads in ({SHAPE.heads}, *[{SHAPE.kv_heads}] * 2))
            return run(q, k, v, torch.tensor([position]))[0].clone()

        run, other = load(sys.argv[1]), load(sys.argv[1])
        for position in (0, 122):
            equal(call(run, 122, position), call(other, 122, position))
        for rows, position in ((1, 256), (7, 250), (128, 200), (1, -1), (1, 1 << 31), (3, 1 << 40), (1, -(1 << 63))):
            assert code(call, run, rows, position) == {INVALID_ARGUMENT}, (rows, position)
            equal(call(run, 1, 243), call(other, 1, 243))
        assert code(call, run, 129, 0) != 0  # above the bound of the rows
        for rows, position in ((1, 244), (11, 245), (1, 9)):
            equal(call(run, rows, position), call(other, rows, position))
    """, own(SHAPE, 256, 128).path)


def test_live_sizes_that_no_route_runs(python):
    """A route that is switched off stands for a device on which none fits few rows."""
    rows = {0: Dim("rows", min=1, max=32)}
    program = one_delegate(apply(lambda a, b: a @ b, random(9, 16), random(16, 8), dynamic=(rows, None)))
    log = child(python, f"""
        executorch_wgpu.set_option("avoid_routes", "matmul.elements")
        run = load(sys.argv[1])
        for rows in (32, 9):
            equal(run(torch.ones(rows, 16), torch.ones(16, 8))[0], torch.full((rows, 8), 16.0))
            assert code(run, torch.ones(3, 16), torch.ones(16, 8)) == {NOT_SUPPORTED}
    """, program.path)
    assert re.search(r"aten.mm.default \(node 0\).*matmul.tiled.*fewer than 8 rows", log), log


def test_operator_that_the_delegate_lacks(python):
    with unknown_is_delegated():
        program = one_delegate(apply(lambda a: unknown(a) + 1.0, random(3, 4)))
    good = one_delegate(apply(lambda a: a + 1.0, random(3, 4)))
    log = child(python, f"""
        assert code(load, sys.argv[1]) == {INVALID_COMPATIBILITY}
        equal(load(sys.argv[2])(torch.ones(3, 4))[0], torch.full((3, 4), 2.0))
    """, program.path, good.path)
    assert re.search(r"unknown\.default.*no such operator", log), log


def blob(program: bytes) -> tuple[int, int]:
    """Start and size of the graph of the first delegate."""
    start = program.index(b"VH00") - 4
    offset, size = struct.unpack_from("<II", program, start + 10)
    return start + offset, size


def test_flipped_bits(python):
    """Whatever the damage, loading and running give a result or an error."""
    for program, inputs in (
        (dynamic(LINEAR, 96), "torch.ones(5, 64)"),
        (own(SHAPE, 256, 128), "*(torch.ones(1, 5, n, 32) for n in (4, 2, 2)), torch.tensor([7])"),
    ):
        start, size = blob(program.path.read_bytes())
        log = child(python, f"""
            import random
            random.seed(5)
            good, refused = open(sys.argv[1], "rb").read(), 0
            for _ in range(300):
                damaged = bytearray(good)
                for _ in range(random.choice((1, 1, 3))):
                    damaged[{start} + random.randrange({size})] ^= 1 << random.randrange(8)
                refused += code(lambda: load(bytes(damaged))({inputs})) != 0
            print("refused", refused)
            assert code(load(good), {inputs}) == 0
        """, program.path)
        assert "internal error" not in log, log  # what a panic is reported as
        assert int(re.search(r"refused (\d+)", log)[1]) > 50


def test_cut_files(python):
    path = dynamic(LINEAR, 96).path
    child(python, """
        good, start = open(sys.argv[1], "rb").read(), int(sys.argv[2])
        for size in (0, 10, start // 2, start + 8, start + 100, (start + len(good)) // 2, len(good) * 3 // 4):
            assert code(lambda: load(good[:size])) != 0, size
        assert code(load(good), torch.ones(5, 64)) == 0
    """, path, blob(path.read_bytes())[0])


def test_named_constant_that_is_missing(python, tmp_path):
    program = dynamic(LINEAR, 96).path.read_bytes()
    start, size = blob(program)
    key = re.search(rb"[0-9a-f]{64}", program[start : start + size])[0]
    other = hashlib.sha256(b"no constant").hexdigest().encode()
    graph = program[start : start + size].replace(key, other)
    (tmp_path / "missing.pte").write_bytes(program[:start] + graph + program[start + size :])
    log = child(python, f"""
        assert code(load, sys.argv[1]) == {INVALID_EXTERNAL_DATA}
        assert code(load(sys.argv[2]), torch.ones(5, 64)) == 0
    """, tmp_path / "missing.pte", dynamic(LINEAR, 96).path)
    assert other.decode()[:8] in log


def test_file_of_weights_that_is_missing_or_damaged(python, tmp_path):
    layer = Linear("4w", 128, 40, 32)
    export = Export(module(layer), (random(5, 128),), options={"external_constants_max_data_bytes": 1 << 20})
    program = save("external", forward=export)
    data = program.data.read_bytes()
    (tmp_path / "cut.ptd").write_bytes(data[: len(data) // 2])
    shutil.copy(program.path, tmp_path / "foreign.ptd")
    child(python, f"""
        model, data, folder = sys.argv[1:]
        assert code(load, model) == {INVALID_EXTERNAL_DATA}
        for wrong in ("cut.ptd", "foreign.ptd", "none.ptd"):
            assert code(load, model, folder + "/" + wrong) != 0, wrong
        assert code(load(model, data), torch.ones(5, 128)) == 0
    """, program.path, program.data, tmp_path)
