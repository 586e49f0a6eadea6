"""Cases that run in a process of their own, and the memory of one."""

from __future__ import annotations

import re
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def fresh_processes() -> Iterator[tuple[ProcessPoolExecutor, Path]]:
    """One new process for each call, one at a time, and a folder that is deleted in the end."""
    context = get_context("forkserver")  # fresh processes that need not import all again
    context.set_forkserver_preload(["scmedal_tools"])
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, context, max_tasks_per_child=1) as fresh,
    ):
        yield fresh, Path(folder)


def one_thread() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)


def peak_memory() -> float:
    """In MiB. ``getrusage`` would count the parent's memory too, up to the start."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
