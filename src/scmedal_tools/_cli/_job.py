"""What is asked of a run; and what all jobs share: expression, timed steps, the record."""

from __future__ import annotations

import json
import platform
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scmedal_tools import pp
from scmedal_tools._data import (
    LOGARITHMS,
    describe,
    doubt,
    expression_of,
    slots,
    summarise_expression,
    where,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData

DEFAULT_GENES = 3000
REPORTED_VERSIONS = ("scmedal-tools", "scvi-tools", "torch", "anndata", "scanpy", "numpy")


@dataclass(frozen=True)
class Job:
    """What the user asked for."""

    batch_key: str
    labels_key: str | None = None
    condition_key: str | None = None
    n_top_genes: int | None = None
    layer: str | None = None
    size_factor_key: str | None = None
    preset: str = "default"
    transform_batch: tuple[str, ...] = ()
    max_epochs: int | None = None
    seed: int = 0


class Steps:
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


def prepare_expression(
    adata: AnnData,
    batch_key: str,
    layer: str | None,
    size_factor_key: str | None,
    n_top_genes: int | None,
    steps: Steps,
) -> bool:
    """Preprocess raw counts, and use log-normalised expression as it is, with all genes.

    Parameters
    ----------
    adata
        Cells; ``X`` is log-normalised afterwards.
    batch_key, layer, size_factor_key, n_top_genes
        See :func:`scmedal_tools.pp.preprocess`. If there are no more than ``n_top_genes`` genes,
        all are kept.
    steps
        Steps of the job, in which it is noted what the values look like.

    Returns
    -------
    bool
        Whether there were raw counts.
    """
    found = summarise_expression(expression_of(adata, layer))
    steps.expression, steps.doubt = f"{where(layer)} {describe(found)}", doubt(layer, found.kind)
    if found.kind in LOGARITHMS:
        steps.announce(f"  {steps.expression}: used as it is, with all genes")
        if size_factor_key is not None:
            steps.announce(f"  size factors in {size_factor_key!r} are not needed")
        adata.uns[slots.PREPROCESSING] = adata.uns.get(slots.PREPROCESSING, {}) | {
            "taken_as": found.kind
        }
        if layer is not None:
            adata.X = adata.layers[layer].copy()
        return False
    pp.preprocess(
        adata,
        layer=layer,
        batch_key=batch_key,
        n_top_genes=n_top_genes if n_top_genes and n_top_genes < adata.n_vars else None,
        size_factor_key=size_factor_key,
    )
    return True


def announce_size(
    adata: AnnData, given: tuple[int, int], batch_key: str, announce: Callable[[str], None]
) -> None:
    """Say how many cells and genes there are, of how many that were given, and the batches."""
    cells, genes = (
        f"{kept:,}" if kept == before else f"{kept:,} of {before:,}"
        for kept, before in zip(adata.shape, given, strict=True)
    )
    n_batches = adata.obs[batch_key].nunique()
    announce(f"  {cells} cells x {genes} genes, {n_batches:,} batches")


def versions() -> dict[str, str]:
    """Versions of the packages that the results depend on."""
    return {name: version(name) for name in REPORTED_VERSIONS}


def write_record(
    file: Path, parameters: dict[str, Any], adata: AnnData, steps: Steps, **extra: Any
) -> dict[str, Any]:
    """Write ``run.json``: parameters, versions, seed and timings; return what it holds."""
    record = {
        "parameters": parameters,
        "seed": parameters["seed"],
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "seconds": {step: round(seconds, 1) for step, seconds in steps.timings.items()},
        "versions": {"python": platform.python_version()} | versions(),
        "expression": steps.expression,
        "doubt": steps.doubt,
        "failures": steps.failures,
    } | extra
    text = json.dumps(record, indent=2, default=str) + "\n"
    write_whole(file, lambda path: path.write_text(text))
    return record
