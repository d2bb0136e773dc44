"""CMake options reach cargo. Nothing is built here: crates/kernels/tests/sdpa_fd.rs looks into binaries of both kinds."""

import subprocess

import pytest

from conftest import ROOT


@pytest.mark.parametrize("value, features", [(None, ["sdpa-fd"]), ("ON", ["sdpa-fd"]), ("OFF", [])])
def test_the_switch_of_flash_decoding_reaches_cargo(tmp_path, value, features):
    option = [] if value is None else [f"-DEXECUTORCH_BUILD_WEBGPU_SDPA_FD={value}"]

    def output(*command: object) -> str:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    output("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", *option)
    commands = output("ninja", "-C", tmp_path, "-t", "commands", "etwgpu_rust")
    crates = [part for part in commands.split("&&") if "cargo" in part and " -p " in part]
    assert len(crates) == 2, commands  # the library and the command
    for command in crates:
        assert "--no-default-features" in command
        assert ("sdpa-fd" in command) == bool(features), command
