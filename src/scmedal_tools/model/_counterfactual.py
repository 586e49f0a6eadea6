"""What cells would express, had they come from another batch."""

from __future__ import annotations

import math
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmedal_tools._data import EXPRESSION, part_of
from scmedal_tools._gene_model import SPREAD
from scmedal_tools.module import levels_of

from ._correction import CorrectionMixin
from ._draws import Draws
from ._streaming import stream
from ._targets import ROWS, TargetsMixin, is_one_target, repeated, target_levels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import pandas as pd
    from torch import Tensor

    from scmedal_tools.module import EffectsDraw

    from ._inference import Indices, Minibatches
    from ._targets import Levels, Target
    from ._unseen import UnseenBatch

    # Not a type statement, which the documentation would not resolve.
    Expression: TypeAlias = pd.DataFrame | np.ndarray  # noqa: UP040

Swap = Literal["content", "decoder", "encoder_decoder"]

SUMMARIES = ("mean", "sd", "lower", "upper")


class CounterfactualMixin(TargetsMixin, CorrectionMixin):
    """Swaps of the batch; subclasses give the module and the inference."""

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
        out: str | Path | None = None,
    ) -> Expression | dict[str, Expression] | dict[str, dict[str, Expression]] | Path | np.memmap:
        """Expression of each cell as the model predicts it for another batch.

        In the units of the input. With a cell's own batch as the target this is
        :meth:`get_reconstruction`, so that differences between targets are effects of the batch
        alone: compare a counterfactual with the reconstruction, not with the measured cell.

        Parameters
        ----------
        adata, indices, batch_size, dataloader, unseen_batch
            See :meth:`get_latent_representation`.
        transform_batch
            Name of the target batch, or several; needed. ``"population"`` is a batch in which
            every random effect is at its mean, 0 (unless a batch has that name). With several
            factors a name changes the batch and keeps the others; a dictionary, for example
            ``{"protocol": "v3"}``, changes those that it names and keeps the rest.
        gene_list
            Genes to return, or the name of one; ``None`` for all.
        n_samples
            Number of posterior draws of the random effects; ``None`` for their means. The draws
            are seeded by ``scvi.settings.seed``, the same for all cells and targets.
        return_mean
            Average the draws.
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
        out
            Where to write the result in blocks of cells, so that it is never held in memory; a
            call that was interrupted resumes where it stopped. A path that ends in ``.zarr`` gives
            a store for :func:`anndata.read_zarr`: the cells' ``obs``, the genes' ``var``, and a
            layer for each target (of its mean, with ``interval`` also ``"<target>_sd"``,
            ``"<target>_lower"`` and ``"<target>_upper"``; ``/`` in a name becomes ``_``). One in
            ``.npy`` gives an array of shape ``(n_targets, n_cells, n_genes)``, with ``interval``
            ``(4, n_targets, n_cells, n_genes)``.

        Returns
        -------
        pandas.DataFrame, numpy.ndarray or dict
            Shape ``(n_cells, n_genes)``, or an array ``(n_samples, n_cells, n_genes)`` with
            ``return_mean=False``. With ``interval`` a dictionary of ``"mean"``, ``"sd"``,
            ``"lower"`` and ``"upper"``. For several targets a dictionary from target to result; a
            target that is a dictionary has a name such as ``"protocol=v3"``.
            With ``out`` the path of the zarr store, or the array in the file, opened to be read.

        Raises
        ------
        ValueError
            If a target is unknown or missing, the network has no content to hold, an interval
            is asked for without draws, or ``out`` cannot hold the result or holds another.

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
        >>> list(mean)
        ['mean', 'sd', 'lower', 'upper']
        """
        if adata is not None and not isinstance(adata, AnnData | MuData):
            raise TypeError(
                f"adata is of type {type(adata).__name__}, and cells come first: pass the batch "
                "by name, transform_batch=..."
            )
        if aggregate not in (None, "mean"):
            raise ValueError(f"aggregate={aggregate!r} is neither None nor 'mean'.")
        if interval is not None:
            check_interval(interval, n_samples)
            if not return_mean:
                raise ValueError("interval summarises the draws: leave out return_mean=False.")
        targets = self._targets(transform_batch)
        swap = self._check_swap(swap)
        genes = self._gene_positions(gene_list)
        decoded = None if gene_list is None else torch.as_tensor(genes, device=self.module.device)

        def compute(
            tensors: dict[str, Tensor], levels: Sequence[Levels], draw: EffectsDraw | None = None
        ) -> Tensor:
            swapped = torch.stack(list(self._swap(tensors, levels, swap, decoded, draw)))
            if keep_residual:
                swapped = swapped + self._residual(tensors, decoded, draw)
            return swapped.mean(0, keepdim=True) if aggregate == "mean" else swapped

        reduce = partial(summarise, interval=interval) if interval is not None else None
        if return_mean and interval is None:
            reduce = partial(torch.mean, dim=0)
        # Cells are encoded once for all targets, but not all draws of all targets held at once.
        levels = list(targets.values())
        one_by_one = n_samples is not None and aggregate is None
        parts = [[of_target] for of_target in levels] if one_by_one else [levels]
        if dataloader is not None and len(parts) > 1:
            dataloader = list(dataloader)

        def values_of(adata: AnnData | MuData | None, indices: Indices | None) -> np.ndarray:
            """Targets x cells x genes; draws or summaries before them."""
            values = [
                self._collect(
                    self._minibatches(adata, indices, batch_size, dataloader, unseen_batch),
                    partial(compute, levels=part),
                    n_samples,
                    reduce,
                    self._n_to_draw(adata, unseen_batch, n_samples),
                )
                for part in parts
            ]
            return np.concatenate(values, axis=-3)

        if out is not None:
            if dataloader is not None or not return_mean:
                raise ValueError("out takes no `dataloader` and no single draws: leave them out.")
            settings_ = {
                "targets": [str(name) for name in targets],
                "aggregate": aggregate,
                "swap": swap,
                "keep_residual": keep_residual,
                "n_samples": n_samples,
                "interval": interval,
                "unseen_batch": unseen_batch,
                "seed": None if n_samples is None else _seed(),
            }
            adata, cells = self._cells(adata, indices, unseen_batch)
            of_cells = partial(values_of, adata)
            expression = part_of(adata, self.registry["setup_args"], EXPRESSION)
            with self._check_once(adata):
                return stream(out, of_cells, cells, expression, genes, self.module, settings_)
        values = values_of(adata, indices)
        names = None if dataloader is not None else self._cell_names(adata, indices)

        def as_table(x: np.ndarray) -> Expression:
            return x if return_numpy else self._as_table(x, names, genes)

        def result(i: int) -> Expression | dict[str, Expression]:
            of_target = values[..., i, :, :]
            if interval is None:
                return as_table(of_target)
            return {name: as_table(x) for name, x in zip(SUMMARIES, of_target, strict=True)}

        if aggregate == "mean" or is_one_target(transform_batch):
            return result(0)
        return {name: result(i) for i, name in enumerate(targets)}

    def _correct(self, tensors: dict[str, Tensor], genes: np.ndarray) -> Tensor:
        """Expression of a minibatch in the population."""
        decoded = torch.as_tensor(genes, device=self.module.device)
        return next(self._swap(tensors, [self._population], self._check_swap(None), decoded))

    def _swap(
        self,
        tensors: dict[str, Tensor],
        targets: Sequence[Levels],
        swap: Swap,
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> Iterator[Tensor]:
        """Expression of a minibatch with the levels that each of the targets names."""
        inference, population = {}, None
        if swap != "encoder_decoder":
            inference = self._infer(tensors, draw)
            if self.module.has_gene_effects:  # the same in all targets
                population = self.module.decode_in_population(inference["content"], genes)
        own = levels_of(tensors)
        for together in batched(targets, max(1, ROWS // len(own))):
            cells, found = (repeated(parts, len(together)) for parts in (tensors, inference))
            target = target_levels(own, together)
            if swap == "encoder_decoder":
                inputs = self.module._get_inference_input(cells, draw=draw)
                found = self.module.inference(**inputs | {"levels": target})
            z = found["z"] if swap != "content" else None
            of_cells = None if population is None else population.repeat(len(together), 1)
            x_hat = self._predict(cells, found, draw, target, genes, of_cells, z)
            yield from self.module.scaler.inverse(x_hat, genes).split(len(own))

    def _predict(
        self,
        tensors: dict[str, Tensor],
        inference: dict[str, Tensor],
        draw: EffectsDraw | None = None,
        levels: Tensor | None = None,
        genes: Tensor | None = None,
        population: Tensor | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Scaled expression of a minibatch under some levels, by default its own."""
        own = levels_of(tensors)
        levels = own if levels is None else levels
        if z is None:
            z = self._latent_in(inference, levels, draw)
        return self.module.predict(
            z,
            levels,
            inference["content"],
            own,
            state=self._states(tensors),
            genes=genes,
            population=population,
            draw=draw,
        )

    def _residual(
        self,
        tensors: dict[str, Tensor],
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> Tensor:
        """What the reconstruction misses of a minibatch, in the units of the input."""
        inference = self._infer(tensors, draw)
        x_hat = self._predict(tensors, inference, draw=draw, genes=genes)
        measured = inference["x_scaled"]
        missed = (measured if genes is None else measured[:, genes]) - x_hat
        return missed * self.module.scaler.scale

    def _latent_in(
        self, inference: dict[str, Tensor], levels: Tensor, draw: EffectsDraw | None = None
    ) -> Tensor:
        """Latent ``r`` of inferred cells as it is with other levels."""
        if self.module.bottleneck is None:
            return inference["z"]
        content = inference["content"]
        return self.module.express(content, levels.to(content.device), sample=False, draw=draw)

    def _check_swap(self, swap: Swap | None) -> Swap:
        has_content = self.module.bottleneck is not None
        swap = swap or ("content" if has_content else "encoder_decoder")
        if swap not in get_args(Swap):
            raise ValueError(f"swap={swap!r} is not one of {get_args(Swap)}.")
        if swap == "content" and not has_content:
            raise ValueError(
                "swap='content' needs a content code, which the paper's presets do not have. Use "
                "'decoder' or 'encoder_decoder', or train with preset='default'."
            )
        return swap

    def _draw_effects(
        self, n_samples: int, n_unseen: Sequence[int] | None = None, spread: float = SPREAD
    ) -> Draws:
        draw = partial(self.module.draw_effects, n_unseen=n_unseen, spread=spread)
        return Draws(draw, _seed(), n_samples)


def summarise(draws: Tensor, interval: float) -> Tensor:
    """Mean, standard deviation, and lower and upper quantile over the draws (first axis)."""
    outside = (1 - interval) / 2
    # A further draw falls between these with the probability asked for, however few there are;
    # interpolated as by default, 50 draws give an interval of 0.9 that holds 0.865.
    quantiles = np.quantile(draws.numpy(), [outside, 1 - outside], axis=0, method="weibull")
    quantiles = quantiles.astype(np.float32)
    return torch.stack([draws.mean(0), draws.std(0), *torch.from_numpy(quantiles)])


def check_interval(interval: float, n_samples: int | None) -> None:
    """Raise a ValueError if there can be no interval."""
    if not 0 < interval < 1:
        raise ValueError(f"interval={interval} is outside its range: pass a share, such as 0.9.")
    if n_samples is None:
        raise ValueError("interval needs draws: pass n_samples as well, for example 100.")
    fewest = math.ceil(2 / (1 - interval) - 1 - 1e-6)
    if n_samples < fewest:
        raise ValueError(
            f"n_samples={n_samples} is too few for interval={interval}, which needs at least "
            f"{fewest} draws; 100 give steady limits."
        )


def _seed() -> int:
    """Seed of the draws."""
    return settings.seed if settings.seed is not None else 0
