"""Write the tables of the benchmarks into the pages of the documentation.

    python benchmarks/update_tables.py

What stands between ``<!-- table: aml.methods -->`` and ``<!-- end table -->`` is the table
"methods" that ``tables()`` of ``benchmarks/aml.py`` makes from its saved results.
"""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS = Path(__file__).resolve().parent
DOCS = BENCHMARKS.parent / "docs"
BLOCK = re.compile(r"(<!-- table: (\w+)\.(\w+) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)


def sources() -> list[Path]:
    """Pages of the documentation, without those of a built one, and the list of benchmarks."""
    pages = [page for page in sorted(DOCS.rglob("*.md")) if DOCS / "_build" not in page.parents]
    return [*pages, BENCHMARKS / "README.md"]


def pages() -> list[Path]:
    """Pages with a table."""
    return [page for page in sources() if "<!-- table:" in page.read_text()]


@cache
def tables_of(script: str) -> dict[str, str]:
    """Tables of ``benchmarks/<script>.py`` by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(script).tables()
    finally:
        sys.path.remove(str(BENCHMARKS))


def fill(text: str, tables: Callable[[str], dict[str, str]] = tables_of) -> str:
    """Page with every table replaced by the one made from the results."""

    def table(block: re.Match) -> str:
        start, script, name, _, end = block.groups()
        return f"{start}{tables(script)[name].strip()}\n{end}"

    return BLOCK.sub(table, text)


if __name__ == "__main__":
    for page in pages():
        page.write_text(fill(page.read_text()))
        print(page.relative_to(DOCS.parent))
