"""Messages that the libraries print for every trained model, such as the available devices."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "scvi")
_LEVELS = RLock()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Context in which Lightning and scvi-tools print warnings and errors only.

    Afterwards the levels of their loggers are as they were. These belong to all threads of a
    process, of which one at a time is let in.
    """
    import scvi  # noqa: F401  # when it is first imported, it and Lightning set the levels

    with _LEVELS:
        levels = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
        try:
            for logger, level in levels.items():
                logger.setLevel(max(level, logging.WARNING))
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
