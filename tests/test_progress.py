"""Progress bars in a notebook that lacks ipywidgets."""

import subprocess
import sys

import pytest

NOTEBOOK = """
import sys, types, warnings
warnings.simplefilter("error")
# tqdm takes this process for a notebook, and finds no widgets.
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
shell = types.ModuleType("IPython")
shell.get_ipython = lambda: None
sys.modules["IPython"] = shell
sys.modules["ipywidgets"] = None
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", NOTEBOOK + code], capture_output=True, text=True, check=False
    )


def test_bars_are_text():
    done = run("from scmedal_tools._progress import tqdm\nlist(tqdm(range(3), desc='Draws'))")
    assert done.returncode == 0, done.stderr
    assert "Draws: 100%" in done.stderr


def test_tqdm_alone_would_warn():
    assert "IProgress not found" in run("import tqdm.auto").stderr


@pytest.mark.slow
def test_parts_are_loaded_without_that_warning():
    code = """
warnings.simplefilter("default")
from tqdm.std import TqdmWarning
warnings.filterwarnings("error", category=TqdmWarning)
import scmedal_tools as smt
smt.model
print(sorted({type(bar).__module__ for bar in [__import__("tqdm.auto").auto.tqdm(disable=True)]}))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "asyncio" in done.stdout
