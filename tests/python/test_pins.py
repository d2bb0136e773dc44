"""Every mention of a version in the repository agrees; the places are found by search, so new ones count at once."""

import re
from importlib import metadata

import pytest

from conftest import ROOT

SKIPPED = {".git", ".venv", "target", "build", "__pycache__", ".pytest_cache"}


def text_files():
    for path in ROOT.rglob("*"):
        if path.is_file() and not SKIPPED.intersection(path.relative_to(ROOT).parts) and path.stat().st_size < 1 << 20:
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                pass


def mentions(pattern: str) -> dict[str, set[str]]:
    """Version -> files that mention it."""
    found: dict[str, set[str]] = {}
    for path, text in text_files():
        for version in re.findall(pattern, text, flags=re.IGNORECASE):
            found.setdefault(version, set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package, pattern", [
    ("executorch", r"(?<![A-Za-z])executorch(?:==|_VERSION\W{1,5}| )(\d+\.\d+\.\d+)"),
    ("torch", r"\btorch==(\d+\.\d+\.\d+)"),
])
def test_pins_agree(package, pattern):
    found = mentions(pattern)
    assert list(found) == [metadata.version(package).split("+")[0]], found


def test_the_search_finds_the_known_places():
    places = set().union(*mentions(r"(?<![A-Za-z])executorch(?:==|_VERSION\W{1,5}| )(\d+\.\d+\.\d+)").values())
    assert {"pyproject.toml", "CMakeLists.txt", "scripts/requirements.txt", "python/executorch_wgpu/__init__.py"} <= places


def test_the_package_version_is_cargos():
    cargo = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())
    assert metadata.version("executorch-wgpu") == cargo[1]
