"""What cells would express, had they come from another batch."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmedal_tools._data import check_argument, check_interval, one_of, whole

from ._inference import check_single_draws
from ._swap import SwapMixin
from ._targets import is_one_target
from ._warn_of_extrapolation import warn_of_extrapolation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from torch import Tensor

    from scmedal_tools.module import EffectsDraw

    from ._inference import Indices, Minibatches
    from ._swap import Swap
    from ._targets import Levels, Target
    from ._unseen import UnseenBatch

    # Not a type statement, which the documentation would not resolve.
    Expression: TypeAlias = pd.DataFrame | np.ndarray  # noqa: UP040

SUMMARIES = ("mean", "sd", "lower", "upper")


class CounterfactualMixin(SwapMixin):
    """Tables of counterfactual expression."""

    @torch.inference_mode()
    def get_counterfactual_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        transform_batch: Target | Sequence[Target] | None = None,
        gene_list: Sequence[str] | None = None,
        n_samples: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        batch_size: int | None = None,
        swap: Swap | None = None,
        aggregate: Literal["mean"] | None = None,
        keep_residual: bool = False,
        interval: float | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> Expression | dict[str, Expression]:
        """Predicted expression in other batches: a table for one or their mean, or one for each.

        A table has the cells in rows and the genes in columns, in log-expression. With a
        cell's own batch as the target this is :meth:`get_reconstruction`, so that differences
        between targets are effects of the batch alone: compare a counterfactual with the
        reconstruction, not with the measured cell.

        Parameters
        ----------
        adata, indices, batch_size, dataloader, unseen_batch
            See :meth:`get_latent_representation`.
        transform_batch
            Name of the target batch, or a list of them; needed. Numbers may be given as text: 2
            and ``"2"`` also name a batch 2.0. ``"population"`` is a batch in which every random
            effect is at its mean, 0 (unless a batch has that name). With several factors a name
            changes the batch and keeps the others; a dictionary, for example
            ``{"protocol": "v3"}``, changes those that it names and keeps the rest.
        gene_list
            Genes to return, or the name of one; ``None`` for all.
        n_samples
            Number of posterior draws of the random effects; ``None`` for their means. The draws
            are seeded by ``scvi.settings.seed``, the same for all cells and targets.
        return_mean
            Average the draws; single draws need ``return_numpy``.
        return_numpy
            Return arrays instead of tables.
        swap
            What gets the target batch. ``"content"``: the cell is encoded in its own batch, down
            to its content, which contains little of the batch, and all that follows gets the
            target;
            ``"decoder"``: the decoder, with the latent of the own batch (scMEDAL, section 4.2.2);
            ``"encoder_decoder"``: encoder and decoder. ``None`` for the preset's: content by
            default, encoder and decoder in the paper's presets.
        aggregate
            ``"mean"`` averages over the targets, as scvi-tools does for a list.
        keep_residual
            Add what the reconstruction misses of each measured cell: the result is the measured
            cell plus the shift, counterfactual minus reconstruction. Swapped cells then vary as
            measured cells do.
        interval
            Share of the draws that an interval holds, for example 0.9; needs ``n_samples``. The
            interval is of the *expected* expression. That of a shift is not the difference of two
            of these: see :func:`scmedal_tools.tl.counterfactual_means`.
        dataloader
            Minibatches to use instead of ``adata``.

        Returns
        -------
        pandas.DataFrame, numpy.ndarray or dict
            A table of shape ``(n_cells, n_genes)`` for one target, or with ``aggregate``. For a
            list of targets, also of one, a dictionary from target to table; a target that is
            itself a dictionary has a name such as ``"protocol=v3"``. With ``interval`` a table has
            the columns of ``"mean"``, ``"sd"``, ``"lower"`` and ``"upper"``, each for all genes.
            With ``return_numpy`` arrays take the place of tables: ``(n_cells, n_genes)``, with
            ``interval`` ``(4, n_cells, n_genes)``, and single draws, ``return_mean=False``,
            ``(n_samples, n_cells, n_genes)``.

        Raises
        ------
        ValueError
            If a target is unknown or missing, the network has no content to hold, an interval
            is asked for without draws, or single draws are asked for as a table.

        Warns
        -----
        UserWarning
            If most of the cells (of a sample of 2,000) are in states of which a target batch had
            fewer than 5 training cells: there the counterfactual is an extrapolation.

        See Also
        --------
        scmedal_tools.tl.write_counterfactuals : The same in a file, for more than fits in memory.
        scmedal_tools.tl.counterfactual_means : Shifts of groups of cells, with intervals.
        scmedal_tools.tl.admissibility : Which cells the data support in which batch.

        Examples
        --------
        What every cell would express in donor 2, beyond what it expresses in its own:

        >>> swapped = model.get_counterfactual_expression(transform_batch="donor_02")
        >>> shift = swapped - model.get_reconstruction()
        >>> shift.shape
        (240, 60)

        Without the effects of any donor, with an interval from draws of the effects:

        >>> mean = model.get_counterfactual_expression(
        ...     transform_batch="population", gene_list=["gene_0003"], n_samples=20, interval=0.9
        ... )
        >>> bool((mean["lower"] <= mean["upper"]).all(axis=None))
        True
        """
        if adata is not None and not isinstance(adata, AnnData | MuData):
            raise TypeError(
                f"adata is of type {type(adata).__name__}, and an AnnData is needed: pass the "
                "batch by name, transform_batch=..."
            )
        check_argument("aggregate", aggregate, one_of(Literal["mean"]), or_none=True)
        if interval is not None:
            check_interval_of_draws(interval, n_samples)
            if not return_mean:
                raise ValueError("interval summarises the draws: leave out return_mean=False.")
        check_single_draws(n_samples, return_mean, return_numpy)
        targets = self._targets(transform_batch)
        swap = self._check_swap(swap)
        genes = self._gene_positions(gene_list)
        if dataloader is None and not self._in_parts:
            warn_of_extrapolation(self, transform_batch, adata, indices, unseen_batch)
        decoded = None if gene_list is None else torch.as_tensor(genes, device=self.module.device)

        def compute(
            tensors: dict[str, Tensor], levels: Sequence[Levels], draw: EffectsDraw | None = None
        ) -> Iterable[Tensor]:
            swapped = self._swap(tensors, levels, swap, decoded, draw)
            if keep_residual:
                residual = self._residual(tensors, decoded, draw)
                swapped = (of_target + residual for of_target in swapped)
            return [torch.stack(list(swapped)).mean(0)] if aggregate == "mean" else swapped

        reduce = partial(summarise, interval=interval) if interval is not None else None
        if return_mean and interval is None:
            reduce = partial(torch.mean, dim=0)
        # Cells are encoded once for all targets, but not all draws of all targets held at once.
        if n_samples is not None and dataloader is None:
            batch_size = settings.batch_size if batch_size is None else batch_size
        levels = list(targets.values())
        one_by_one = n_samples is not None and aggregate is None
        parts = [[of_target] for of_target in levels] if one_by_one else [levels]
        if dataloader is not None and len(parts) > 1:
            dataloader = list(dataloader)

        values = [
            of_target
            for part in parts
            for of_target in self._collect_several(
                self._minibatches(adata, indices, batch_size, dataloader, unseen_batch),
                partial(compute, levels=part),
                n_samples,
                reduce,
                self._n_to_draw(adata, unseen_batch, n_samples),
            )
        ]
        names = None if dataloader is not None else self._cell_names(adata, indices)

        def result(of_target: np.ndarray) -> Expression:
            if return_numpy:
                return of_target
            if interval is None:
                return self._as_table(of_target, names, genes)
            tables = (self._as_table(x, names, genes) for x in of_target)
            return pd.concat(dict(zip(SUMMARIES, tables, strict=True)), axis=1)

        if aggregate == "mean" or is_one_target(transform_batch):
            return result(values[0])
        return dict(zip(targets, map(result, values), strict=True))


def summarise(draws: Tensor, interval: float) -> Tensor:
    """Mean, standard deviation, and lower and upper quantile over the draws (first axis)."""
    outside = (1 - interval) / 2
    # A further draw falls between these with the probability asked for, however few there are;
    # interpolated as by default, 50 draws give an interval of 0.9 that holds 0.865.
    quantiles = np.quantile(draws.numpy(), [outside, 1 - outside], axis=0, method="weibull")
    quantiles = quantiles.astype(np.float32)
    return torch.stack([draws.mean(0), draws.std(0), *torch.from_numpy(quantiles)])


def check_interval_of_draws(interval: float, n_samples: int | None) -> None:
    """Refuse an interval that so many draws do not give."""
    check_interval(interval)
    if n_samples is None:
        raise ValueError("interval needs draws: pass n_samples as well, for example 100.")
    check_argument("n_samples", n_samples, whole())
    fewest = math.ceil(2 / (1 - interval) - 1 - 1e-6)
    if n_samples < fewest:
        raise ValueError(
            f"n_samples={n_samples} is too few for interval={interval}, which needs at least "
            f"{fewest} draws; 100 give steady limits."
        )
