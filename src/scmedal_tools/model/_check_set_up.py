"""A check that cells were set up for a model of this class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmedal_tools._compat import latest_manager

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scvi.model.base import BaseModelClass


def check_set_up(model_class: type[BaseModelClass], adata: AnnData | MuData) -> None:
    """Refuse cells that are not the object that was set up, and say what to do."""
    try:
        latest_manager(model_class, adata)
    except ValueError as error:
        setup = "setup_mudata" if hasattr(adata, "mod") else "setup_anndata"
        raise ValueError(
            f"{error} Call {model_class.__name__}.{setup}(...) on this object first: a copy, a "
            "selection, and the same cells for another model need a set-up of their own."
        ) from None
