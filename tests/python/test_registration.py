"""Loading the package: one registry, both names, clear words when something is in the way."""

import json
import subprocess
import sys

from conftest import DEMO

NAMES = "import torch; from executorch.extension.pybindings import _C; print(_C._get_registered_backend_names())"
RUNTIME = "from executorch.runtime import Runtime; print(Runtime.get().backend_registry.registered_backend_names)"


def test_import_registers_both_names_once(python):
    result = python(f"import executorch_wgpu\nimport executorch_wgpu\n{NAMES}")
    assert result.stdout.count("'VulkanBackend'") == 1 and result.stdout.count("'WgpuBackend'") == 1, result.stderr


def test_import_order_does_not_matter(python):
    result = python(f"{RUNTIME}\nimport executorch_wgpu\n{RUNTIME}")
    before, after = result.stdout.splitlines()[-2:]
    assert "VulkanBackend" not in before and "VulkanBackend" in after


def test_the_vulkan_name_can_be_left_to_others(python):
    result = python(f"import executorch_wgpu\n{NAMES}", ETWGPU_AS_VULKAN="0")
    assert "VulkanBackend" not in result.stdout and "WgpuBackend" in result.stdout, result.stderr


def test_a_taken_name_is_reported_with_the_way_out(python, tmp_path):
    """A copy of the library stands for another delegate that came first."""
    code = """
import ctypes, shutil, sys, torch
import executorch.extension.pybindings._C
from importlib.util import find_spec
library = find_spec("executorch_wgpu").submodule_search_locations[0] + "/lib/libexecutorch_backend_wgpu.so"
shutil.copy(library, sys.argv[1])
ctypes.CDLL(sys.argv[1])
import executorch_wgpu
print(executorch_wgpu._library.etwgpu_owns(b"VulkanBackend"))
"""
    result = python(code, tmp_path / "other.so")
    assert result.returncode == 0, result.stderr
    assert "ETWGPU_AS_VULKAN=0" in result.stderr and "already registered VulkanBackend" in result.stderr
    assert result.stdout.strip().endswith("0")


def test_availability_tells_the_truth(python):
    code = """
import executorch_wgpu as e
from executorch.extension.pybindings import _C
print(e.is_available(), _C._is_available("VulkanBackend"), _C._is_available("WgpuBackend"))
"""
    assert python(code).stdout.split()[-3:] == ["True"] * 3
    assert python(code, ETWGPU_ADAPTER="nonexistent").stdout.split()[-3:] == ["False"] * 3
    assert python(code, ETWGPU_DISABLE="1").stdout.split()[-3:] == ["False"] * 3


def test_without_an_adapter_a_program_is_refused_not_fatal(python):
    code = """
import sys, executorch_wgpu
from executorch.extension.pybindings import _C
try:
    _C._load_program(sys.argv[1]).load_method("forward")
except RuntimeError as error:
    print("refused:", error)
"""
    result = python(code, DEMO, ETWGPU_ADAPTER="nonexistent")
    assert result.returncode == 0 and "refused:" in result.stdout, result.stderr


def test_adapter_info_is_a_dictionary(python):
    result = python("import executorch_wgpu, json; print(json.dumps(executorch_wgpu.adapter_info()))")
    assert json.loads(result.stdout.splitlines()[-1])["name"]
    result = python("import executorch_wgpu; print(executorch_wgpu.adapter_info())", ETWGPU_ADAPTER="nonexistent")
    assert result.returncode == 0, result.stderr


def test_another_executorch_version_is_refused_with_the_remedy(python):
    code = """
from importlib import metadata
real = metadata.version
metadata.version = lambda name: "9.9.9" if name == "executorch" else real(name)
try:
    import executorch_wgpu
except ImportError as error:
    print(error)
"""
    result = python(code)
    assert "found 9.9.9" in result.stdout and "pip install executorch==" in result.stdout, result.stderr


def test_options(python):
    code = """
import executorch_wgpu as e
e.set_option("avoid_routes", "nothing")
assert e.get_option("avoid_routes") == "nothing"
for bad in (lambda: e.set_option("no_such_option", 1), lambda: e.get_option("no_such_option"),
            lambda: e.set_option("caf\\u00e9", 1)):
    try:
        bad()
    except (ValueError, KeyError):
        print("refused")
"""
    result = python(code)
    assert result.stdout.count("refused") == 3, result.stderr


def test_the_command_starts_without_loading_the_runtime():
    code = "import sys, etwgpu; etwgpu.main(['--help']); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip().endswith("False"), result.stderr
