"""Latents and reconstructions of a trained model, minibatch by minibatch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import torch
from scvi import settings
from scvi.model.base import BaseModelClass

from scmedal_tools._data import check_argument, positions_of, whole
from scmedal_tools._docs import with_shared_parts

from ._cell_tables import AsAsked, collect_tables
from ._memory_advice import INFERENCE, memory_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scmedal_tools.module import EffectsDraw

    from ._draws import Draws
    from ._unseen import UnseenBatch

    Indices = Sequence[int] | np.ndarray
    Minibatches = Iterable[dict[str, Tensor]]

# Cells in a minibatch: larger ones than in training take less time.
CELLS_PER_MINIBATCH = 512
# scvi.settings.batch_size if the user has not set it.
SCVI_DEFAULT = 128

UNTRAINED = "The model is not trained yet. Call `model.train()` first."


class InferenceMixin(BaseModelClass):
    """What a trained model says of cells; subclasses give the module and the registration."""

    @torch.inference_mode()
    @with_shared_parts
    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        batch_size: int | None = None,
        n_samples: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> np.ndarray:
        """Latent of each cell.

        Parameters
        ----------
        adata
            Cells with the genes and batches of the training data, in a MuData if the model was
            registered with one; ``None`` for the training data.
        indices
            Positions of the cells to use, or a mask; ``None`` for all.
        batch_size
            Cells in a minibatch; ``None`` for 512, or ``scvi.settings.batch_size`` if that is not
            its default, 128. With ``n_samples``, expression takes ``scvi.settings.batch_size``.
        n_samples
            Number of posterior draws of the random effects; ``None`` for their means.
        dataloader
            Minibatches to use instead of ``adata``.
        unseen_batch
            What to do with cells of batches that the model was not trained on. ``"error"``: refuse
            them; ``"population"``: no effects, as if from the average batch; ``"prior"``: effects
            drawn from the prior, with ``n_samples``. Networks without random effects do not use
            the batch and take ``"population"``.

        Returns
        -------
        numpy.ndarray
            Shape ``(n_cells, n_latent)``, with ``n_samples`` ``(n_samples, n_cells, n_latent)``.

        Raises
        ------
        %(untrained)s
        IndexError
            If a mask does not fit the cells, or there is no cell at one of the ``indices``.
        ValueError
            If the cells do not fit the training data, ``indices`` name a cell of a file twice, or
            ``n_samples`` is asked of a network without random effects.

        Examples
        --------
        >>> model.get_latent_representation().shape
        (240, 4)
        >>> control = model.adata.obs["condition"] == "control"
        >>> model.get_latent_representation(indices=control).shape
        (110, 4)
        """
        minibatches = self._minibatches(adata, indices, batch_size, dataloader, unseen_batch)
        n_unseen = self._n_to_draw(adata, unseen_batch, n_samples)

        def latent(tensors: dict[str, Tensor], draw: EffectsDraw | None = None) -> Tensor:
            return self._infer(tensors, draw)["z"]

        return self._collect(minibatches, latent, n_samples, n_unseen=n_unseen)

    @torch.inference_mode()
    @with_shared_parts
    def get_reconstruction(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        gene_list: Sequence[str] | None = None,
        n_samples: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        batch_size: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> pd.DataFrame | np.ndarray:
        """Reconstructed log-expression of each cell.

        The cell is reconstructed in its own batch; in the paper's presets ``SCMEDAL_FE``, whose
        decoder has no batch, reconstructs what all batches share. Neither is a count.

        Parameters
        ----------
        adata, indices, batch_size, n_samples, dataloader, unseen_batch
            See :meth:`get_latent_representation`.
        gene_list
            Genes to return, or the name of one; ``None`` for all.
        return_mean
            Average the draws of ``n_samples``; single draws need ``return_numpy``.
        return_numpy
            Return an array instead of a table.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            Shape ``(n_cells, n_genes)``, of single draws, ``return_mean=False``,
            ``(n_samples, n_cells, n_genes)``.

        Raises
        ------
        %(untrained)s
        ValueError
            If a gene is not in the model, the cells do not fit the training data, ``n_samples``
            is asked of a network without random effects, or single draws are asked for as a table.

        Examples
        --------
        >>> genes = ["gene_0003", "gene_0008"]
        >>> reconstructed = model.get_reconstruction(gene_list=genes)
        >>> reconstructed.shape, list(reconstructed.columns)
        ((240, 2), ['gene_0003', 'gene_0008'])
        """
        check_single_draws(n_samples, return_mean, return_numpy)
        genes = self._gene_positions(gene_list)
        if n_samples is not None and dataloader is None:  # all draws of a minibatch are held
            batch_size = settings.batch_size if batch_size is None else batch_size
        minibatches = self._minibatches(adata, indices, batch_size, dataloader, unseen_batch)
        n_unseen = self._n_to_draw(adata, unseen_batch, n_samples)
        reconstruct = partial(self._reconstruct, genes=genes)
        reduce = partial(torch.mean, dim=0) if return_mean else None
        values = self._collect(minibatches, reconstruct, n_samples, reduce, n_unseen)
        cells = None if dataloader is not None else self._cell_names(adata, indices)
        return values if return_numpy else self._as_table(values, cells, genes)

    @torch.inference_mode()
    @with_shared_parts
    def get_reconstruction_error(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        batch_size: int | None = None,
        dataloader: Minibatches | None = None,
        return_mean: bool = True,
    ) -> dict[str, float | np.ndarray]:
        """Reconstruction term of the loss, as its mean over the cells or of each cell.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            See :meth:`get_latent_representation`.
        return_mean
            Average over the cells.

        Returns
        -------
        dict
            ``"reconstruction_loss"``: nats of a cell, or with the paper's presets the mean squared
            error. A number, as in ``model.history``, or with ``return_mean=False`` an array of
            shape ``(n_cells,)``.

        Raises
        ------
        %(untrained)s
        ValueError
            If the cells do not fit the training data.

        Examples
        --------
        >>> list(model.get_reconstruction_error())
        ['reconstruction_loss']
        """
        errors = []
        for tensors in self._minibatches(adata, indices, batch_size, dataloader):
            _, _, output = self.module(tensors)
            (per_cell,) = output.reconstruction_loss.values()
            errors.append(per_cell.cpu().numpy())
        of_cells = np.concatenate(errors)
        mean = float(of_cells.mean(dtype=np.float64))
        return {"reconstruction_loss": mean if return_mean else of_cells}

    def get_normalized_expression(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Say what takes the place of scVI's method: these models take normalised expression.

        Parameters
        ----------
        *args, **kwargs
            Whatever scVI's method takes.

        Returns
        -------
        NoReturn
            It raises.

        Raises
        ------
        AttributeError
            Always.

        Examples
        --------
        >>> model.get_normalized_expression()
        Traceback (most recent call last):
            ...
        AttributeError: These models take log-normalised expression. ...
        """
        raise AttributeError(
            "These models take log-normalised expression. Use get_reconstruction for each cell in "
            "its own batch, get_corrected_expression for expression without the batch, and, with "
            "SCMEDAL_RE, get_counterfactual_expression(transform_batch=...) for another batch."
        )

    def _minibatches(
        self,
        adata: AnnData | MuData | None,
        indices: Indices | None,
        batch_size: int | None,
        dataloader: Minibatches | None,
        unseen_batch: UnseenBatch = "error",
    ) -> Minibatches:
        if dataloader is not None:
            self._check_if_trained(warn=False, message=UNTRAINED)
            if adata is not None or indices is not None or batch_size is not None:
                raise ValueError("`dataloader` replaces `adata`, `indices` and `batch_size`.")
            if unseen_batch != "error":
                raise ValueError(
                    "unseen_batch needs `adata`: a `dataloader` has codes of known batches only."
                )
            return dataloader
        check_argument("batch_size", batch_size, whole(), or_none=True)
        adata, cells = self._cells(adata, indices, unseen_batch)
        batch_size = batch_size or _cells_per_minibatch()
        generator = torch.Generator()  # or the loader advances torch's global one
        minibatches = self._make_data_loader(adata, cells, batch_size, generator=generator)
        return AsAsked(minibatches, cells) if adata.isbacked else minibatches

    def _own_minibatches(self, cells: np.ndarray) -> Minibatches:
        """Minibatches of the model's own cells, whether it is finished or not."""
        return InferenceMixin._minibatches(self, None, cells, None, None)

    def _cells(
        self,
        adata: AnnData | MuData | None,
        indices: Indices | None,
        unseen_batch: UnseenBatch = "error",
    ) -> tuple[AnnData | MuData, np.ndarray]:
        """Data that fit the model, and the positions of the cells to use."""
        self._check_if_trained(warn=False, message=UNTRAINED)
        if adata is None and self.adata is None:
            raise ValueError(
                "The model was loaded without data: pass `adata`, or load it with its cells:\n"
                f"    model = {type(self).__name__}.load(folder, adata)"
            )
        adata = self._validate_anndata(adata, unseen_batch=unseen_batch)
        cells = np.arange(adata.n_obs) if indices is None else positions_of(indices, adata.n_obs)
        if not cells.size:
            raise ValueError("`indices` selects no cell.")
        if adata.isbacked and len(np.unique(cells)) < len(cells):
            raise ValueError(
                "`indices` names a cell twice, and a file gives every cell once. Leave out the "
                "repeated ones, or read the cells into memory: adata.to_memory()"
            )
        return adata, cells

    def _infer(
        self, tensors: dict[str, Tensor], draw: EffectsDraw | None = None
    ) -> dict[str, Tensor]:
        return self.module.inference(**self.module._get_inference_input(tensors, draw=draw))

    def _predict(
        self,
        tensors: dict[str, Tensor],
        inference: dict[str, Tensor],
        draw: EffectsDraw | None = None,
    ) -> Tensor:
        """Scaled expression that the model expects of inferred cells."""
        inputs = self.module._get_generative_input(tensors, inference)
        return self.module.generative(**inputs)["x_hat"]

    def _reconstruct(
        self,
        tensors: dict[str, Tensor],
        draw: EffectsDraw | None = None,
        genes: np.ndarray | slice = slice(None),
    ) -> Tensor:
        """Reconstructed log-expression of a minibatch."""
        x_hat = self._predict(tensors, self._infer(tensors, draw), draw)
        return self.module.reconstruct(x_hat, genes)

    def _collect(
        self,
        minibatches: Minibatches,
        compute: Callable[..., Tensor],
        n_samples: int | None = None,
        reduce: Callable[[Tensor], Tensor] | None = None,
        n_unseen: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Apply ``compute``, which gives cells x columns, to every minibatch.

        With draws of the random effects, also of unseen levels, which are its argument ``draw``,
        these are a first axis, unless they are reduced.
        """

        def alone(*args: Any, **kwargs: Any) -> list[Tensor]:
            return [compute(*args, **kwargs)]

        return self._collect_several(minibatches, alone, n_samples, reduce, n_unseen)[0]

    @memory_advice(INFERENCE)
    def _collect_several(
        self,
        minibatches: Minibatches,
        compute: Callable[..., Iterable[Tensor]],
        n_samples: int | None = None,
        reduce: Callable[[Tensor], Tensor] | None = None,
        n_unseen: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """Do as :meth:`_collect` where ``compute`` gives several tables."""
        draws = None if n_samples is None else self._draw_effects(n_samples, n_unseen).hold()
        return collect_tables(minibatches, compute, draws, reduce)

    def _draw_effects(self, n_samples: int, n_unseen: Sequence[int] | None = None) -> Draws:
        raise ValueError(
            f"{type(self).__name__} has no random effects to draw; leave out `n_samples`."
        )

    def _gene_positions(self, gene_list: Sequence[str] | None) -> np.ndarray:
        names = self.gene_names
        if gene_list is None:
            return np.arange(len(names))
        if isinstance(gene_list, str):
            gene_list = [gene_list]
        unknown = [gene for gene in gene_list if gene not in names]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of the genes in gene_list are not in the model: "
                f"{', '.join(map(str, unknown[:5]))}. `model.gene_names` lists those it has."
            )
        return names.get_indexer(gene_list)

    def _cell_names(self, adata: AnnData | MuData | None, indices: Indices | None) -> pd.Index:
        names = (self.adata if adata is None else adata).obs_names
        return names if indices is None else names[positions_of(indices, len(names))]

    def _as_table(
        self, values: np.ndarray, cells: pd.Index | None, genes: np.ndarray
    ) -> pd.DataFrame:
        return pd.DataFrame(values, index=cells, columns=self.gene_names[genes])


def check_single_draws(n_samples: int | None, return_mean: bool, return_numpy: bool) -> None:
    """Refuse single draws as a table, which has no axis for them."""
    if n_samples is not None and not return_mean and not return_numpy:
        raise ValueError(
            "return_mean=False gives every draw, (n_samples, n_cells, n_genes), for which a table "
            "has no axis: pass return_numpy=True as well, or leave out return_mean=False for the "
            "mean of the draws."
        )


def _cells_per_minibatch() -> int:
    """Cells in a minibatch, unless a method is asked for another number."""
    return CELLS_PER_MINIBATCH if settings.batch_size == SCVI_DEFAULT else settings.batch_size
