"""Importing the package is light; its parts load when they are first used."""

import subprocess
import sys

import pytest

import scmedal_tools


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nothing_is_loaded_before_it_is_used():
    code = (
        "import sys, scmedal_tools\n"
        "print(*[m for m in sys.modules if m.startswith('scmedal_tools.')])\n"
        "print(*{'scanpy', 'scvi', 'torch', 'matplotlib', 'anndata'} & sys.modules.keys())"
    )
    assert run(code) == []


@pytest.mark.slow
def test_use_loads_a_part_and_only_what_it_needs():
    code = (
        "import sys, scmedal_tools\n"
        "scmedal_tools.datasets.simulated\n"
        "print(*{f'scmedal_tools.{n}' for n in ('datasets', 'model')} & sys.modules.keys())"
    )
    assert run(code) == ["scmedal_tools.datasets"]


@pytest.mark.parametrize("name", scmedal_tools.__all__)
def test_parts_are_listed_and_export_what_they_say(name):
    assert name in dir(scmedal_tools)
    part = getattr(scmedal_tools, name)
    assert part.__name__ == f"scmedal_tools.{name}"
    assert all(hasattr(part, exported) for exported in part.__all__)


def test_only_what_is_public_is_listed():
    public = {"bm", "datasets", "ext", "model", "module", "pl", "pp", "tl", "train"}
    assert set(dir(scmedal_tools)) == public | {"__version__"}


@pytest.mark.parametrize("name", scmedal_tools.__all__)
def test_only_what_is_public_is_listed_of_a_part(name):
    part = getattr(scmedal_tools, name)
    assert set(dir(part)) == set(part.__all__)


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'models'"):
        _ = scmedal_tools.models
