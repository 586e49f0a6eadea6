"""Progress bars that need nothing: in a notebook without ipywidgets they are text."""

from __future__ import annotations

import warnings

from tqdm.std import TqdmWarning

with warnings.catch_warnings():
    # That ipywidgets is missing, said when tqdm.auto is first imported: scvi-tools does it too.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
