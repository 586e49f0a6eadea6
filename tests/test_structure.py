"""The shape of the source tree: no circle of imports, and folders that only look down."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    structure = importlib.import_module("structure")
# Each may import from itself and from what stands before it.
FLOORS = (
    "_compat _docs _find_level _how_to_install _relabelled _progress _quiet",
    "_data",
    "_gene_model",
    "_sample_model",
    "module",
    "train",
    "datasets pp",
    "model",
    "tl",
    "ext",
    "bm",
    "pl",
    "_cli",
)
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names.split()}


def _write(folder, files):
    for name, text in files.items():
        path = folder / "src" / "scmedal_tools" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.slow
def test_is_counted_without_git(tmp_path):
    """As in an archive of the source."""
    shutil.copytree(
        ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*[!y]")
    )
    subprocess.run(
        [sys.executable, "-c", "import structure"], cwd=tmp_path / "benchmarks", check=True
    )


@pytest.mark.slow
def test_no_circle_of_imports():
    assert structure.circles() == []


def test_circles_are_found_in_functions_and_type_hints(tmp_path):
    one = "def f():\n    from ._two import g\n"
    two = "if TYPE_CHECKING:\n    from scmedal_tools._one import f\n"
    _write(tmp_path, {"__init__.py": "", "_one.py": one, "_two.py": two})
    assert structure.circles(tmp_path) == [["scmedal_tools._one", "scmedal_tools._two"]]


@pytest.mark.slow
def test_folders_import_from_those_below():
    upwards = {
        f"{module} imports {origin}"
        for module, origin, _ in structure.imports()
        if (home := structure.package_of(module)) != (other := structure.package_of(origin))
        and home
        and other
        and FLOOR[other] >= FLOOR[home]
    }
    assert upwards == set()


@pytest.mark.slow
def test_no_import_past_the_interface_of_a_folder():
    assert structure.private_imports() == []


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("from scmedal_tools.model._base import MedalModel", 1),
        ("from scmedal_tools.model import _base", 1),
        ("from scmedal_tools.model import SCMEDAL_RE", 0),
        ("from ._umap import umap", 0),
    ],
)
def test_what_is_past_an_interface(tmp_path, line, counted):
    _write(tmp_path, {f"{name}/__init__.py": "" for name in ("model", "tl")})
    _write(tmp_path, {"model/_base.py": "", "tl/_umap.py": "", "tl/_embed.py": line})
    assert len(structure.private_imports(tmp_path)) == counted


@pytest.mark.slow
def test_tools_use_no_private_members_of_models():
    assert structure.private_uses_of_models() == []


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("model._infer(cells)", 1),
        ("[model][0]._seed", 1),
        ("getattr(model, '_infer')", 1),
        ("model.train()", 0),
        ("self._infer(cells)", 0),
        ("model._repr_html_()", 0),
        ("figure._draw()", 0),
    ],
)
def test_what_is_a_private_use_of_a_model(tmp_path, line, counted):
    model = (
        "class Model:\n    _seed: int = 0\n\n    def train(self): ...\n"
        "    def _infer(self): ...\n    def _repr_html_(self): ...\n"
    )
    _write(tmp_path, {f"{name}/__init__.py": "" for name in ("model", "tl")})
    _write(tmp_path, {"model/_base.py": model + "\n\ndef _draw(): ...\n", "tl/_embed.py": line})
    assert len(structure.private_uses_of_models(tmp_path)) == counted


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("from scmedal_tools.model import MedalModel", 1),
        ("from scmedal_tools.model import SCMEDAL_RE", 0),
        ("from scmedal_tools import model", 0),
        ("from scmedal_tools._data import part_of", 0),
    ],
)
def test_what_is_imported_for_the_package_alone(tmp_path, line, counted):
    offers = "__all__ = ['SCMEDAL_RE']"
    _write(tmp_path, {f"{name}/__init__.py": offers for name in ("model", "_data")})
    _write(tmp_path, {"__init__.py": "", "tl/__init__.py": "", "tl/_embed.py": line})
    assert len(structure.imports_for_the_package(tmp_path)) == counted


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_files_are_short(folder):
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert [path for path, n in lines.items() if n > 400] == []
