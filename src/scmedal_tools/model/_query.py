"""Effects of new batches, learned on top of a model that stays unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scmedal_tools._compat import device_of, latest_manager, replace_content
from scmedal_tools._data import check_anndata
from scmedal_tools.train import QueryTrainingPlan, RETrainingPlan

from ._base import MedalModel
from ._query_checks import check_has_genes, levels_of_factors

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    from anndata import AnnData
    from scvi.data import AnnDataManager

    from scmedal_tools.train import Preset

QUERY_EPOCHS = 100


class QueryMixin(MedalModel):
    """Adds batches to a trained model; subclasses give model, module and training."""

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: AnnData,
        reference_model: str | Path | Self,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """Give new cells the genes of a trained model, in its order.

        Genes that the model does not know are dropped. Unlike in scVI, genes that are missing are
        not filled with zeros: after normalisation, a zero is a measurement.

        Parameters
        ----------
        adata
            Log-normalised cells.
        reference_model
            Trained model, or the folder that it was saved in.
        return_reference_var_names
            Only return the names of the model's genes.
        inplace
            Change ``adata``; otherwise return a changed copy.

        Returns
        -------
        AnnData, pandas.Index or None
            The cells with ``inplace=False``, the names if asked for, otherwise nothing.

        Raises
        ------
        ValueError
            If genes of the model are missing.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> shuffled = adata[:, ::-1].copy()
        >>> smt.model.SCMEDAL_RE.prepare_query_anndata(shuffled, model)
        >>> bool((shuffled.var_names == model.gene_names).all())
        True
        """
        reference = cls._loaded(reference_model)
        genes = reference.gene_names
        if return_reference_var_names:
            return genes
        check_anndata(adata)
        if adata.isbacked:
            raise ValueError("adata is backed by a file. Run:\nadata = adata.to_memory()")
        check_has_genes(adata, genes)
        ordered = adata[:, genes].copy()
        if not inplace:
            return ordered
        replace_content(adata, ordered)
        return None

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData,
        reference_model: str | Path | Self,
        *,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Add the new batches of some cells to a trained model.

        Training the result learns the random effects of the new batches, and nothing else: all
        parameters and buffers of the reference, the effects of its batches, and its predictions
        for its own cells stay identical to the byte (predictions on the same device).

        Parameters
        ----------
        adata
            Cells with the genes of the training data, some or all of them of new batches (or new
            levels of further factors). Registered as :meth:`setup_anndata` does.
        reference_model
            Trained model, or the folder that it was saved in.
        accelerator, device
            Where the result lives, as in :meth:`scvi.model.SCVI.load_query_data`: a GPU if there
            is one.

        Returns
        -------
        SCMEDAL_RE
            Model of the cells, with the batches of the reference followed by the new ones. It is
            to be trained: ``train()`` takes all cells and 100 epochs by default, so that a few
            cells are enough. Until then the effects of the new batches are at their prior.

        Raises
        ------
        ValueError
            If there is no new batch, the cells do not fit the reference, or the reference was
            itself made by this method.

        Notes
        -----
        The posterior of the new effects is as in the reference's training, with the prior scales
        that it has learned. Effects on single genes are computed in closed form from the cells of
        each new batch, with the reference's fixed effects and variances.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> new_cells = adata[:40].copy()
        >>> new_cells.obs["donor"] = "donor_05"
        >>> query = smt.model.SCMEDAL_RE.load_query_data(new_cells, model)
        >>> query.train(max_epochs=2, enable_progress_bar=False)
        >>> query.batch_names[-1]
        'donor_05'
        >>> query.get_counterfactual_expression(transform_batch="donor_01").shape
        (40, 60)
        """
        reference = cls._loaded(reference_model)
        reference._check_if_trained(warn=False, message="Train the reference model first.")
        if reference.is_query:
            raise ValueError(
                "reference_model was itself made by load_query_data. Give the model that was "
                "trained at first, and all new batches together."
            )
        registry = reference.registry
        setup = getattr(cls, registry.get("setup_method_name", "setup_anndata"))
        setup(adata, source_registry=registry, extend_categories=True, **registry["setup_args"])
        parameters = reference.init_params_
        arguments = parameters["non_kwargs"] | parameters["kwargs"]["module_kwargs"]
        arguments = {k: v for k, v in arguments.items() if k not in ("registry", "n_new")}
        n_new = _n_new(latest_manager(cls, adata), reference)
        model = cls(adata, n_new=n_new, **arguments)
        _copy_state(reference.module, model.module)
        model.module.start_new_levels()
        model.to_device(device_of(accelerator, device))
        model.module.eval()
        return model

    @classmethod
    def _loaded(cls, reference: str | Path | Self) -> Self:
        """Load the reference model, if its folder is given."""
        if isinstance(reference, str | Path):
            return cls.load(reference, adata=False)
        if not isinstance(reference, MedalModel):
            raise TypeError(
                f"reference_model is {type(reference).__name__}: the cells come first, then a "
                f"trained {cls.__name__} or the folder with one."
            )
        return reference

    @property
    def is_query(self) -> bool:
        """Whether batches were added to a trained model."""
        return any(self.module.n_new)

    def _preset(self) -> Preset:
        preset = super()._preset()
        if not self.is_query:
            return preset
        return replace(
            preset,
            plan={k: v for k, v in preset.plan.items() if k != "effects_lr"},
            train=preset.train
            | {"max_epochs": QUERY_EPOCHS, "early_stopping": False, "train_size": 1.0},
        )

    @property
    def _training_plan_cls(self) -> type[RETrainingPlan]:  # type: ignore[override] # only read
        return QueryTrainingPlan if self.is_query else RETrainingPlan


def _n_new(manager: AnnDataManager, reference: QueryMixin) -> list[int]:
    levels = levels_of_factors(manager.registry).values()
    n_new = [len(a) - len(b) for a, b in zip(levels, reference.factors.values(), strict=True)]
    if not any(n_new):
        raise ValueError(
            "The cells have no batch that the reference model does not know: use it as it is."
        )
    return n_new


@torch.no_grad()
def _copy_state(reference: torch.nn.Module, module: torch.nn.Module) -> None:
    """Copy all parameters and buffers; those with a row for each level have more of them now."""
    trained = reference.state_dict()
    here = module.state_dict()
    for name, source in trained.items():
        values = here[name]
        if values.ndim:
            values[: len(source)] = source
        else:
            values.copy_(source)
