"""Checks of arguments that are numbers, words, or settings by their names."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from math import inf
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Allowed(NamedTuple):
    """Values that an argument may have, and what is said of all others."""

    holds: Callable[[Any], bool]
    otherwise: str


def check_argument(name: str, value: Any, allowed: Allowed, *, or_none: bool = False) -> None:
    """Refuse a value that an argument may not have.

    Raises
    ------
    ValueError
        If it may not. The message has the argument, its value and what is allowed.
    """
    if not (allowed.holds(value) or (or_none and value is None)):
        raise ValueError(f"{name}={value!r} {allowed.otherwise}.")


def check_settings_by_name(owner: str, given: Any, known: Iterable[str]) -> None:
    """Refuse settings that what is named does not take.

    Raises
    ------
    TypeError
        If there are any, or these are no settings. The message has those that there are.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{owner}={given!r} has to be a dictionary of settings and their values.")
    known = sorted(known)
    for name in sorted(given.keys() - set(known)):
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise TypeError(f"{owner} takes no {name!r}. {hint}It takes {', '.join(known)}.")


def one_of(literal: Any) -> Allowed:
    """Words of a ``Literal``."""
    words = get_args(literal)
    return Allowed(lambda x: x in words, f"is not one of {words}")


def whole(at_least: int = 1) -> Allowed:
    """Whole numbers from one on."""

    def holds(x: Any) -> bool:
        return isinstance(x, int | np.integer) and not isinstance(x, bool) and int(x) >= at_least

    return Allowed(holds, f"has to be at least {at_least}, and a whole number")


def number(holds: Callable[[Any], bool], otherwise: str) -> Allowed:
    """Numbers of which something holds."""
    return Allowed(
        lambda x: not isinstance(x, bool) and isinstance(x, Real) and holds(x), otherwise
    )


POSITIVE = number(lambda x: 0 < x < inf, "has to be a number above 0")
NOT_NEGATIVE = number(lambda x: 0 <= x < inf, "has to be a number of at least 0")
SHARE = number(lambda x: 0 <= x < 1, "has to be a share: at least 0 and below 1")
