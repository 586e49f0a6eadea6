"""Commands in tests."""

import io

import pytest
from PIL import Image

BLANK = {}
for ending, kind in ((".png", "PNG"), (".pdf", "PDF")):
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(file, kind)
    BLANK[ending] = file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    """Ten trees unless a test asks for more."""
    from scmedal_tools import bm

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bm.cross_validate.__kwdefaults__, "n_trees", 10)
        yield


@pytest.fixture
def drawn_figures():
    """Figures as users get them."""


@pytest.fixture(autouse=True)
def quick_figures(request, monkeypatch):
    """Blank pictures in place of those of a single test; a fixture of several has its own.

    To draw and write them takes longer than all else that a command does.
    """
    from scmedal_tools._cli import _evaluate_job, _run_job

    if "drawn_figures" in request.fixturenames:
        return

    def write(file, *_, **__):
        file.parent.mkdir(parents=True, exist_ok=True)
        for ending, blank in BLANK.items():
            file.with_suffix(ending).write_bytes(blank)

    for module in (_evaluate_job, _run_job):
        monkeypatch.setattr(module, "draw_and_save", write)
