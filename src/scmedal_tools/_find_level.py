"""Levels of a column by names that may be written in another way."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def find_level(levels: Iterable[Any], name: Any) -> int | None:
    """Find the level that a name means: the same, else the same as text, else the same number.

    Donors have fractions, 2.0, wherever their column once had gaps: 2 and ``"2"`` mean that one.

    Parameters
    ----------
    levels
        Levels, each once.
    name
        What the user calls one of them.

    Returns
    -------
    int or None
        Position of the level; ``None`` if there is none, or if several could be meant.
    """
    known = list(levels)
    for form in (lambda level: level, str, _number):
        meant = form(name)
        found = [i for i, level in enumerate(known) if form(level) == meant]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _number(level: Any) -> Decimal | object:
    # Names such as 10_1 and 1E2, which float() reads too, are none.
    text = str(level)
    return Decimal(text) if re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", text) else object()
