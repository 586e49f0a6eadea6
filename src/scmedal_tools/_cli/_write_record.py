"""The record that a job leaves of itself, ``run.json``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from scmedal_tools._data import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ._timed_steps import TimedSteps

REPORTED_VERSIONS = ("scmedal-tools", "scvi-tools", "torch", "anndata", "scanpy", "numpy")


def versions() -> dict[str, str]:
    """Versions of the packages that the results depend on."""
    return {name: version(name) for name in REPORTED_VERSIONS}


def write_record(
    file: Path, parameters: dict[str, Any], adata: AnnData, steps: TimedSteps, **extra: Any
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
