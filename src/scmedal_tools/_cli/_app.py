"""Mixed-effects autoencoders for single-cell data: batch correction and batch effects."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from ._console import console
from ._demo import demo
from ._evaluate import evaluate
from ._reproduce import reproduce
from ._run import run

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"scmedal-tools {version('scmedal-tools')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Mixed-effects autoencoders for single-cell data: batch correction and batch effects."""


# Options of several values leave all but the first over.
app.command(context_settings={"allow_extra_args": True})(run)
app.command(context_settings={"allow_extra_args": True})(evaluate)
app.command(context_settings={"allow_extra_args": True})(reproduce)
app.command()(demo)
