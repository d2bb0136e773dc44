"""The shared library from outside: what it shows, what it needs, where it looks."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(find_spec("executorch_wgpu").submodule_search_locations[0])
LIBRARY = PACKAGE / "lib" / "libexecutorch_backend_wgpu.so"
HEADER = (PACKAGE / "include" / "executorch_wgpu.h").read_text()


def output(*command: object) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def dynamic(kind: str) -> list[str]:
    return re.findall(rf"\({kind}\).*\[(.*)\]", output("readelf", "-d", LIBRARY))


def test_exports_are_the_ones_of_the_header():
    exported = {line.split()[-1] for line in output("nm", "-D", "--defined-only", LIBRARY).splitlines()}
    assert exported == set(re.findall(r"\b(etwgpu_\w+)\(", HEADER))


def test_the_registry_is_the_one_of_libexecutorch():
    assert "libexecutorch.so" in dynamic("NEEDED")
    undefined = output("nm", "-DC", "--undefined-only", LIBRARY)
    assert "executorch::runtime::register_backend" in undefined
    assert "executorch::runtime::get_backend_class" in undefined


def test_it_needs_no_library_that_a_plain_system_lacks():
    allowed = r"libexecutorch\.so|libstdc\+\+\.so\.6|libgcc_s\.so\.1|libc\.so\.6|libm\.so\.6|libdl\.so\.2|ld-linux.*"
    assert [name for name in dynamic("NEEDED") if not re.fullmatch(allowed, name)] == []


def test_the_run_path_is_relative():
    (paths,) = dynamic("RUNPATH")
    assert all(path.startswith("$ORIGIN") for path in paths.split(":")), paths


def test_it_is_stripped_and_stays_loaded():
    assert ".symtab" not in output("readelf", "-S", LIBRARY)
    assert "NODELETE" in output("readelf", "-d", LIBRARY)


def test_no_executorch_library_is_bundled():
    assert [str(p) for p in PACKAGE.rglob("libexecutorch*.so") if p != LIBRARY] == []
