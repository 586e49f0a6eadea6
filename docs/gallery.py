"""Draw the pictures of the gallery, by the code that stands there.

python docs/gallery.py             # all of them, a quarter of an hour
python docs/gallery.py training    # some
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import scvi
from matplotlib.axes import Axes
from PIL import Image

FOLDER = Path(__file__).resolve().parent
PICTURES = FOLDER / "_static" / "gallery"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
NAME = re.compile(r"<scmedal_tools\.pl\.(\w+)>")
DPI, WIDTH = 130, 1000


def blocks() -> tuple[str, dict[str, str]]:
    """Code that comes first, and that of each figure by its name."""
    first, *cards = (FOLDER / "gallery.md").read_text(encoding="utf-8").split("{grid-item-card}")
    return _code(first), {NAME.search(card)[1]: _code(card) for card in cards}


def _code(text: str) -> str:
    return CODE.search(text)[1]


def draw(code: str, names: dict[str, Any]) -> Any:
    """Run code, and give the figure that its last statement returns."""
    *before, last = code.strip().split("\nsmt.pl.")
    exec("\n".join(before) if before else "", names)
    drawn = eval(f"smt.pl.{last.removeprefix('smt.pl.')}", names)
    return drawn.figure if isinstance(drawn, Axes) else drawn


def save(figure: Any, name: str) -> None:
    file = PICTURES / f"{name}.png"
    figure.savefig(file, dpi=DPI, bbox_inches="tight", facecolor="white")
    picture = Image.open(file).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    # All colours are kept: a palette of 256 would change those of heat maps.
    picture.save(file, optimize=True)


def main(chosen: list[str]) -> None:
    mpl.use("agg")
    scvi.settings.seed = 0
    PICTURES.mkdir(exist_ok=True)
    first, figures = blocks()
    names: dict[str, Any] = {}
    exec(first, names)
    for name, code in figures.items():
        # Later figures need what earlier ones have made.
        figure = draw(code, names)
        if not chosen or name in chosen:
            save(figure, name)
            print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
