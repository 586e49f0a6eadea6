"""Progress bars in a notebook that lacks ipywidgets."""

import subprocess
import sys

import pytest

# tqdm takes this process for a notebook, and finds no widgets.
NOTEBOOK = """
import sys, types
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.ModuleType("IPython")
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"].get_ipython = lambda: kernel
sys.modules["ipywidgets"] = None
"""
WARNING = "IProgress not found"


def errors_of(code):
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_bars_are_text():
    said = errors_of(
        "from scmedal_tools._progress import tqdm\nlist(tqdm(range(3), desc='Draws'))"
    )
    assert "Draws: 100%" in said
    assert WARNING not in said


def test_tqdm_alone_warns():
    assert WARNING in errors_of("import tqdm.auto")


@pytest.mark.slow
def test_scvi_tools_does_not_warn_either():
    assert WARNING not in errors_of("import scmedal_tools\nscmedal_tools.train")
