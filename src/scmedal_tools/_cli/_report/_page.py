"""A page of sections with text, pictures and tables, as one file that needs nothing else."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from scmedal_tools import __version__
from scmedal_tools._data import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CODE_MARKS = "\ufdd0", "\ufdd1"
"""Before and after code within a text: characters that no text contains."""


def code(text: str) -> str:
    """Mark a part of a paragraph or caption that is code."""
    return text.join(CODE_MARKS)


@dataclass(frozen=True)
class Picture:
    """A PNG file, what it is, and how to read it."""

    file: Path
    alt: str
    """What is drawn, for those who cannot see it."""
    caption: str
    """What to look at, and what the picture does not show."""

    @property
    def uri(self) -> str:
        """The file itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.file.read_bytes()).decode()}"

    def links(self, folder: Path) -> dict[str, str]:
        """Addresses of the file, and of the PDF beside it if there is one, from a folder."""
        files = {"PNG": self.file, "PDF": self.file.with_suffix(".pdf")}
        return {
            kind: quote(file.relative_to(folder).as_posix())
            for kind, file in files.items()
            if file.is_file()
        }


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; the first cell of each names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    """Whether it is shown only on demand."""

    @classmethod
    def of_frame(cls, caption: str, frame: pd.DataFrame, **options: Any) -> Table:
        """Table of a data frame without its index; numbers have three digits."""
        rows = [[as_text(value) for value in row] for row in frame.itertuples(index=False)]
        return cls(caption, list(map(str, frame.columns)), rows, **options)


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, lines of code, pictures and tables."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    lines: str = ""
    """Python code to copy."""


def write_page(file: Path, title: str, lead: str, sections: Iterable[Section]) -> None:
    """Write the page. Names that come from the data are escaped.

    Parameters
    ----------
    file
        HTML file to write; one that is there is replaced.
    title, lead
        Heading of the page, and the paragraph below it.
    sections
        What follows, in this order.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("scmedal_tools._cli", "_report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html").render(
        title=title,
        lead=lead,
        sections=[_drawn(s) for s in sections],
        folder=file.parent,
        code_marks=CODE_MARKS,
        version=__version__,
    )
    write_whole(file, lambda path: path.write_text(page, encoding="utf-8"))


def _drawn(section: Section) -> Section:
    """Leave out pictures that could not be drawn."""
    return replace(section, pictures=[p for p in section.pictures if p.file.is_file()])


def as_text(value: object) -> str:
    """Value of a table or a parameter, as it is read."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {as_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return ", ".join(map(as_text, value)) or "none"
    if pd.isna(value):
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        return f"{value:.3g}"
    return str(value)
