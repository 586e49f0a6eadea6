"""What the commands share: what they read, refuse and print."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console

from scmedal_tools._quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData

console = Console()
errors = Console(stderr=True)


def check_file(path: Path) -> None:
    """Refuse a file that is not there."""
    if not path.is_file():
        raise typer.BadParameter(f"There is no file {path}. Give the .h5ad file first.")


def read(path: Path) -> AnnData:
    """Read an h5ad file."""
    import anndata

    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        # Whatever h5py and anndata raise for a file of another kind.
        raise ValueError(
            f"{path} cannot be read as an .h5ad file ({error}). Read it with the matching "
            "function of scanpy, for example sc.read_10x_h5, and save it with adata.write_h5ad."
        ) from error


def fail(message: str) -> NoReturn:
    """Show the reason, and end the command."""
    errors.print("Error:", style="red", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def announce(line: str) -> None:
    """Show a line: what is indented belongs to the step announced before."""
    style = None if line.startswith(" ") else "bold"
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def list_written(out: Path, files: Mapping[str, str]) -> None:
    """Show what was written, and what it is."""
    announce(f"\nWritten to {out}")
    width = max(map(len, files))
    for name, description in files.items():
        announce(f"  {name:<{width}}   {description}")


def fail_if_incomplete(failures: Mapping[str, str]) -> None:
    """End the command with an error if some output could not be written."""
    if failures:
        fail(f"Not written: {', '.join(failures)}. The reasons are above and in run.json.")


@contextmanager
def explained() -> Iterator[None]:
    """Show a refusal as one message instead of a traceback."""
    from scmedal_tools._data import ExpressionError

    try:
        yield
    except (ValueError, KeyError, OSError, ImportError) as error:
        if isinstance(error, ExpressionError) and error.counts_layer is not None:
            fail(f"{error.problem} Pass --layer {error.counts_layer}.")
        # The str() of a KeyError is the repr of its message.
        fail(str(error.args[0] if isinstance(error, KeyError) else error))


@contextmanager
def with_notes() -> Iterator[None]:
    """Leave progress bars and our own notes, hide what the libraries print."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|torch|anndata|scanpy|umap|scvi)\b")
        # The same may be said of every fold.
        note = cache(lambda text: announce(f"  note: {text}"))
        warnings.showwarning = lambda message, *_: note(str(message))
        with quietly():
            yield


def quiet_worker() -> None:
    """Hide the warnings of another process: it has no console to leave notes on."""
    warnings.simplefilter("ignore")
