"""Log lines on their way to ExecuTorch's logger, which in Python needs the interpreter."""

import re

from conftest import DEMO

RUN = """
import sys, torch, executorch_wgpu
from executorch.runtime import Runtime, Verification
executorch_wgpu.set_option("log", sys.argv[2])
method = Runtime.get().load_program(sys.argv[1], verification=Verification.Minimal).load_method("forward")
for length in (3, 1, 1):
    method.execute([torch.full((1, length), 4), torch.tensor([0])])
print("the end", executorch_wgpu.get_option("log"))
"""


def lines(python, level: str, **environment: str) -> list[str]:
    result = python(RUN, DEMO, level, **environment)
    assert f"the end {level}" in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]
    return re.findall(r"^\[([\w:]+):0\] ", result.stdout + result.stderr, re.MULTILINE)


def test_lines_of_threads_that_compile_shaders(python):
    """They are written by the thread that waits for them: threads of their own would wait for the interpreter that this
    one holds."""
    sources = lines(python, "trace")
    assert "etwgpu_engine::pipelines" in sources  # one line a shader, from the thread that compiles it
    assert "naga::valid::function" in sources or "naga::front" in sources, set(sources)


def test_levels(python):
    usual = lines(python, "")
    assert "etwgpu_runtime::session" in usual and "etwgpu_engine::pipelines" not in usual
    assert not any(source.startswith(("wgpu", "naga")) for source in usual)
    assert lines(python, "off") == []
    assert "etwgpu_engine::pipelines" in lines(python, "debug", ETWGPU_LOG="off")  # an option wins
