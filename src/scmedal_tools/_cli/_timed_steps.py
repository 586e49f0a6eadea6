"""Steps of a job, announced and timed; what cannot be written is noted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TimedSteps:
    """Steps of a job: each is announced before it starts, and timed.

    Parameters
    ----------
    announce
        Called with one line before each step.
    """

    def __init__(self, announce: Callable[[str], None]):
        self.announce = announce
        self.timings: dict[str, float] = {}
        self.failures: dict[str, str] = {}
        """What could not be written, and why."""
        self.expression = ""
        """What the values that were given look like."""
        self.doubt = ""
        """What to make sure of, if they may be something else."""

    @contextmanager
    def step(self, key: str, title: str) -> Iterator[None]:
        """Context of one step."""
        self.announce(title)
        start = time.perf_counter()
        yield
        self.timings[key] = time.perf_counter() - start

    @contextmanager
    def attempt(self, output: str) -> Iterator[None]:
        """Context of writing one output: if that fails, it is noted, and the rest goes on."""
        try:
            yield
        except Exception as error:
            # Hours of training must not hang on a figure, whatever its error.
            self.failures[output] = f"{type(error).__name__}: {error}"
            self.announce(f"  {output} failed: {self.failures[output]}")
