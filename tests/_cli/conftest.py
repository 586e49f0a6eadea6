"""Commands in tests."""

import io

import pytest
from PIL import Image

BLANK = {}
for ending, kind in ((".png", "PNG"), (".pdf", "PDF")):
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(file, kind)
    BLANK[ending] = file.getvalue()


@pytest.fixture
def drawn_figures():
    """Figures as users get them."""


@pytest.fixture(autouse=True)
def quick_figures(request, monkeypatch):
    """Blank pictures in place of those of a single test; a fixture of several has its own.

    To write them takes longer than all else that a command does.
    """
    from scmedal_tools._cli import _save_figure

    if "drawn_figures" in request.fixturenames:
        return

    def write(figure, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(BLANK[file.suffix])

    monkeypatch.setattr(_save_figure, "write_figure", write)
