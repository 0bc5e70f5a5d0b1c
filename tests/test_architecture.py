"""The house: a room imports only from itself and from rooms before it, without circles; what is
public is documented."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import diffgenz

PACKAGE = Path(diffgenz.__file__).parent
ROOMS = (
    "core",
    "kernels",
    "hardware",
    "technology",
    "operators",
    "models",
    "scenario",
    "inference",
    "serving",
    "routing",
    "studies",
    "calibrating",
    "ui",
)
"""From the ground up; nothing imports `ui`, the last."""

FILES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imports(name: str) -> set[str]:
    """The files of the package that `name` imports, also inside functions."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffgenz"):
            inside = (node.module or "").removeprefix("diffgenz").lstrip(".")
            for alias in node.names:
                whole = f"{inside}.{alias.name}".lstrip(".")
                found.add(whole if whole in FILES else inside)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_from_its_room_and_those_before(name):
    own = ROOMS.index(name.split(".")[0])
    for other in imports(name):
        assert other in FILES, f"{name} imports {other}"
        assert ROOMS.index(other.split(".")[0]) <= own, f"{name} imports {other}"


def test_no_circles():
    TopologicalSorter({name: imports(name) - {name} for name in FILES}).prepare()


@pytest.mark.parametrize(
    "verb", ["inference.estimate", "inference.breakdown", "serving.serve", "studies.search.search"]
)
def test_questions_load_neither_optimizers_nor_tables(verb):
    """They are asked from a shell, where each tenth of a second of imports is waited for."""
    seen, others, ahead = set(), set(), {verb}
    while ahead:
        name = ahead.pop()
        seen.add(name)
        for node in TREES[name].body:  # not what functions import
            if isinstance(node, ast.Import):
                others |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                others.add(node.module or "")
        inside = {each.removeprefix("diffgenz.") for each in others if each.startswith("diffgenz")}
        inside |= {each for each in imports(name) if each.rpartition(".")[0] in inside}
        inside |= {each.rpartition(".")[0] for each in inside}
        ahead |= (inside & FILES.keys()) - seen
    assert {"core.record", "kernels.form"} < seen
    heavy = ("scipy.optimize", "scipy.sparse", "scipy.stats", "pandas", "pyarrow", "matplotlib")
    assert not {each for each in others if each.startswith(heavy)}


def test_the_top_has_thirteen_rooms_at_most_and_nothing_else():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert rooms <= set(ROOMS)
    assert {path.name for path in PACKAGE.glob("*.py*")} <= {
        "__init__.py",
        "__init__.pyi",
        "__main__.py",
    }


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_documented(name):
    tree = TREES[name]
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
