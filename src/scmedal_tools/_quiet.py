"""Messages that the libraries print for every trained model, such as the available devices."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "scvi")
_LEVELS = RLock()


def quiet() -> None:
    """Hide what Lightning and scvi-tools say whenever a model is trained, from now on.

    These are notes on the hardware and on loggers, and Lightning's warnings. Warnings of this
    package, such as about too few batches, are still shown, and so are progress bars
    (``train(enable_progress_bar=False)``).

    Returns
    -------
    None
        Sets the levels of their loggers to ``WARNING``, and ignores the warnings of Lightning.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.train.quiet()
    """
    for logger in _loggers():
        logger.setLevel(max(logger.level, logging.WARNING))
    warnings.filterwarnings("ignore", module="lightning")


def _loggers() -> list[logging.Logger]:
    import scvi  # noqa: F401  # when it is first imported, it and Lightning set the levels

    return [logging.getLogger(name) for name in _LOGGERS]


@contextmanager
def quietly() -> Iterator[None]:
    """Context in which Lightning and scvi-tools print warnings and errors only.

    Afterwards the levels of their loggers are as they were. These belong to all threads of a
    process, of which one at a time is let in.
    """
    with _LEVELS:
        levels = {logger: logger.level for logger in _loggers()}
        try:
            for logger, level in levels.items():
                logger.setLevel(max(level, logging.WARNING))
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
