"""What the documents list is what the sources have; what they link to exists."""

import re

from conftest import ROOT

OPS = ROOT / "crates" / "kernels" / "src" / "ops"
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def operators() -> dict[str, list[str]]:
    """Serialized operator names by folder: those of the definitions that OPS lists, and those that a pass folds away."""
    listed = re.search(r"pub const OPS: &\[&OpDef\] = &\[(.*?)\];", (OPS / "mod.rs").read_text(), re.DOTALL)[1]
    found: dict[str, list[str]] = {}
    for folder, constant in re.findall(r"&(\w+)::(\w+),", listed):
        source = OPS / f"{folder}.rs"
        text = (source if source.exists() else OPS / folder / "mod.rs").read_text()
        defined = re.search(rf"pub const {constant}: OpDef\b.*?&\[(.*?)\]|\b{constant},\s*(\"[^\"]+\")", text, re.DOTALL)
        assert defined, f"no definition of {folder}::{constant} with its names in a list"
        found.setdefault(folder, []).extend(re.findall(r'"([^"]+)"', defined[1] or defined[2]))
    prepack = (OPS.parent / "passes" / "prepack.rs").read_text()
    found["prepack"] = re.findall(r'"(et_vk\.prepack\.\w+)"', prepack)
    return {folder: sorted(names) for folder, names in sorted(found.items())}


def table() -> str:
    """The rows of the README's table."""
    return "\n".join(f"| {folder} | {', '.join(f'`{name}`' for name in names)} |" for folder, names in operators().items())


def test_the_readme_lists_every_operator():
    rows = re.findall(r"^\| \w+ \| `.*` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert "\n".join(rows) == table(), f"the README's table of operators should be\n\n{table()}\n"


def test_the_search_finds_the_operators():
    names = [name for of_folder in operators().values() for name in of_folder]
    references = (OPS.parent / "reference.rs").read_text()
    known = re.findall(r'\(\s*"([^"]+)",\s*\w+::reference::\w+,?\s*\)', references)
    assert sorted(names) == sorted(known)


def test_links_lead_somewhere():
    missing = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                missing.append(f"{document.relative_to(ROOT)}: {target}")
    assert missing == []


def test_files_named_in_the_documents_exist():
    """Paths in backquotes that start with a folder of the repository; a name in capitals or <> stands for any."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    missing = []
    for document in DOCUMENTS:
        for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", document.read_text()):
            first = path.split("/")[0]
            if first in folders - {"build", "target"} and not (ROOT / path).exists():
                missing.append(f"{document.relative_to(ROOT)}: {path}")
    assert missing == []
