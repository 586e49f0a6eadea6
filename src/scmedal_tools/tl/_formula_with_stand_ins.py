"""Formulas whose variables are columns with any name."""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# Text; a name in backticks; or one that may have dots and is no function that is called.
NAME = re.compile(
    r"""'[^']*'|"[^"]*"|`(?P<quoted>[^`]+)`|(?<![\w.])(?P<plain>[^\W\d][\w.]*)(?![\w.]|\s*\()"""
)


def formula_with_stand_ins(formula: str, columns: Collection[str]) -> tuple[str, dict[str, str]]:
    """Replace names of columns that formulaic would read as code.

    Those are names with dots or spaces, keywords, and names of its functions, such as ``C``.

    Parameters
    ----------
    formula
        As the user wrote it.
    columns
        Names of all columns.

    Returns
    -------
    The formula with stand-ins, and the stand-in of each name that was replaced.
    """
    from formulaic.transforms import TRANSFORMS

    stand_ins: dict[str, str] = {}

    def replaced(found: re.Match) -> str:
        name = found["quoted"] or found["plain"]
        if name is None:
            return found[0]
        plain = name.isidentifier() and not iskeyword(name) and name not in TRANSFORMS
        if plain or name not in columns:
            return found[0]
        return stand_ins.setdefault(name, f"__column_{len(stand_ins)}__")

    return NAME.sub(replaced, formula), stand_ins
