"""Cells of batches that a model was not trained on."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args
from weakref import WeakKeyDictionary

from scvi.model.base import BaseModelClass

from scmedal_tools._compat import copy_if_view as own_data
from scmedal_tools._compat import (
    forget_registration,
    latest_manager,
    register_with,
    registered_manager,
    renew_identifier,
    without_trace,
)

from ._query_checks import check_query, levels_of_factors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData
    from scvi.data import AnnDataManager

UnseenBatch = Literal["error", "population", "prior"]

# Of each model, by thread. Not in the model, whose copies and files would have the cells.
_LAST_QUERIES: WeakKeyDictionary[BaseModelClass, dict[int, AnnDataManager]] = WeakKeyDictionary()
# Filters of warnings belong to all threads: two that change them in turn may not restore them.
_FILTERS = threading.Lock()


class UnseenBatchMixin(BaseModelClass):
    """Registration of new cells; subclasses give the model."""

    _checked: AnnData | MuData | None = None
    _in_parts: bool = False

    def _validate_anndata(
        self,
        adata: AnnData | None = None,
        copy_if_view: bool = True,
        unseen_batch: UnseenBatch = "error",
    ) -> AnnData:
        if unseen_batch not in get_args(UnseenBatch):
            raise ValueError(
                f"unseen_batch={unseen_batch!r} is not one of {get_args(UnseenBatch)}."
            )
        if adata is not None and self.adata is None:
            # Which is set up from the model's registry, and not to be trained on.
            with without_trace(type(self), adata):
                return self._registered(adata, copy_if_view, unseen_batch != "error")
        return self._registered(adata, copy_if_view, unseen_batch != "error")

    def _registered(
        self, adata: AnnData | None, copy_if_view: bool, unseen_allowed: bool
    ) -> AnnData:
        if adata is not None and adata is not self.adata and adata is not self._checked:
            check_query(adata, self.registry, unseen=unseen_allowed)
            if unseen_allowed or self.adata is not None:
                own_data(adata, copy_if_view)
                self._tell_from_its_copy(adata)
                # Anew, as they may have had other batches when they were registered before.
                self._remember(self._manager_of_query(adata))
        elif not self._in_parts and (adata is None or adata is self.adata):
            self._check_unchanged()
        return super()._validate_anndata(adata, copy_if_view=copy_if_view)

    def _tell_from_its_copy(self, adata: AnnData | MuData) -> None:
        """Give cells that are a copy of registered ones an identifier of their own."""
        manager = registered_manager(self, adata)
        if manager is not None and manager.adata is not adata:
            renew_identifier(adata)

    def _manager_of_query(self, adata: AnnData) -> AnnDataManager:
        """Register cells, whose new batches get the codes after those of the model."""
        with _FILTERS, warnings.catch_warnings():
            # "Models may not train properly": these cells are not trained on.
            warnings.filterwarnings("ignore", message=".*fewer than 3 cells")
            if self.adata_manager is not None:
                return self.adata_manager.transfer_fields(adata, extend_categories=True)
            setup = getattr(type(self), self.registry.get("setup_method_name", "setup_anndata"))
            arguments = self.registry["setup_args"]
            setup(adata, source_registry=self.registry, extend_categories=True, **arguments)
        return latest_manager(type(self), adata)

    def _remember(self, manager: AnnDataManager) -> None:
        """Register the last new cells only, or the cells of many files would stay in memory.

        Of each running thread, which may be about to read them.
        """
        last = _LAST_QUERIES.setdefault(self, {})
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        for thread in [thread for thread in last if thread not in others]:
            before = last.pop(thread)
            in_use = [other.adata for other in list(last.values())]
            if self._checked is None and all(before.adata is not adata for adata in in_use):
                forget_registration(self, before)
        last[threading.get_ident()] = manager
        register_with(self, manager)

    def _n_to_draw(
        self, adata: AnnData | None, unseen_batch: UnseenBatch, n_samples: int | None
    ) -> list[int] | None:
        """Number of unseen levels of each factor whose effects are drawn from the prior."""
        if unseen_batch != "prior":
            return None
        if n_samples is None:
            raise ValueError("unseen_batch='prior' draws effects: pass n_samples, for example 50.")
        return self._n_unseen(adata)

    def _n_unseen(self, adata: AnnData | None) -> list[int]:
        """Number of levels of each factor that the cells have and the model does not know."""
        if adata is None or adata is self.adata:
            return [0] * len(self.factors)
        registered = levels_of_factors(self.get_anndata_manager(adata, required=True).registry)
        return [
            len(of_cells) - len(trained)
            for of_cells, trained in zip(registered.values(), self.factors.values(), strict=True)
        ]


def check_fits(
    model: UnseenBatchMixin, adata: AnnData | MuData, unseen_batch: UnseenBatch = "error"
) -> None:
    """Refuse cells that do not fit the training data of the model."""
    model._validate_anndata(adata, unseen_batch=unseen_batch)


@contextmanager
def in_parts(model: UnseenBatchMixin, adata: AnnData | MuData | None) -> Iterator[None]:
    """Context in which cells that fit, read in parts, are not checked again for each part."""
    if (adata is None or adata is model.adata) and not model._in_parts:
        model._check_unchanged()
    before = model._checked, model._in_parts
    model._checked, model._in_parts = adata, True
    try:
        yield
    finally:
        model._checked, model._in_parts = before
