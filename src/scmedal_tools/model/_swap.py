"""Expression of minibatches of cells, with the batch swapped."""

from __future__ import annotations

from functools import partial
from itertools import batched
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from scvi import REGISTRY_KEYS, settings

from scmedal_tools._docs import with_shared_parts
from scmedal_tools._gene_model import SPREAD
from scmedal_tools.module import levels_of

from ._correction import CorrectionMixin
from ._draws import Draws
from ._memory_advice import INFERENCE, memory_advice
from ._targets import ROWS, TargetsMixin, target_levels
from ._unseen import in_parts
from ._warn_of_extrapolation import warn_of_extrapolation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scmedal_tools._gene_model import LevelFreePart
    from scmedal_tools.module import EffectsDraw

    from ._inference import Indices, Minibatches
    from ._targets import Levels, Target
    from ._unseen import UnseenBatch

Swap = Literal["content", "decoder", "encoder_decoder"]


class ExpressionBlock(NamedTuple):
    """Expression of a minibatch of cells in one target."""

    draw: int | None
    target: Any
    cells: slice
    values: Tensor


class SwapMixin(TargetsMixin, CorrectionMixin):
    """Swaps of the batch; subclasses give the module and the inference."""

    @with_shared_parts
    def iter_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        transform_batch: Target | Sequence[Target | None] | None = None,
        *,
        n_samples: int | None = None,
        swap: Swap | None = None,
        batch_size: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> Iterator[ExpressionBlock]:
        """Predicted expression, one minibatch at a time, so that little is in memory.

        Parameters
        ----------
        adata, indices, batch_size, dataloader, unseen_batch
            See :meth:`get_latent_representation`. With ``n_samples``, minibatches that can be
            read again for each draw.
        transform_batch
            Targets as in :meth:`get_counterfactual_expression`; among them ``None`` stands for
            each cell's own batch, in which it is reconstructed. ``None`` for that alone.
        n_samples
            Number of posterior draws, through all cells in each; ``None`` for the means.
        swap
            See :meth:`get_counterfactual_expression`.

        Yields
        ------
        draw : int or None
            Number of the draw.
        target : str or None
            Name of the target, ``None`` for the own batch.
        cells : slice
            Place of these cells among those that were asked for.
        values : torch.Tensor
            Log-expression, ``(n_cells, n_genes)``.

        Raises
        ------
        %(untrained)s
        ValueError
            If a target is unknown, or the cells do not fit the training data.

        Warns
        -----
        UserWarning
            As :meth:`get_counterfactual_expression`, unless there is a ``dataloader``.

        Examples
        --------
        >>> total = sum(
        ...     block.values.sum(0)
        ...     for block in model.iter_expression(transform_batch=["donor_02"])
        ... )
        >>> total.shape
        torch.Size([60])
        """
        if dataloader is None:
            warn_of_extrapolation(self, transform_batch, adata, indices, unseen_batch)
        cells = adata, indices, batch_size, dataloader, unseen_batch
        yield from self._iter_expression(cells, transform_batch, n_samples, swap)

    def _iter_expression(
        self,
        cells: tuple[Any, ...],
        transform_batch: Target | Sequence[Target | None] | None,
        n_samples: int | None = None,
        swap: Swap | None = None,
    ) -> Iterator[ExpressionBlock]:
        """Blocks of cells, those of :meth:`_minibatches`, without the warning of extrapolation."""
        named = self._asked(transform_batch)
        return self._iter_levels(named, self._check_swap(swap), cells, n_samples)

    @torch.inference_mode()
    def _iter_levels(
        self,
        targets: Mapping[Any, Levels],
        swap: Swap,
        cells: tuple[Any, ...],
        n_samples: int | None = None,
        spread: float = SPREAD,
    ) -> Iterator[ExpressionBlock]:
        """Blocks of cells, those of :meth:`_minibatches`, under the levels of each target."""
        adata, *_, unseen_batch = cells
        if adata is not None:
            self._validate_anndata(adata, unseen_batch=unseen_batch)
        n_unseen = self._n_to_draw(adata, unseen_batch, n_samples)
        draws = [None] if n_samples is None else self._draw_effects(n_samples, n_unseen, spread)
        with in_parts(self, adata), memory_advice(INFERENCE):
            for i, draw in enumerate(draws):
                start = 0
                for tensors in self._minibatches(*cells):
                    place = slice(start, start + len(tensors[REGISTRY_KEYS.X_KEY]))
                    swapped = self._swap(tensors, list(targets.values()), swap, draw=draw)
                    for target, values in zip(targets, swapped, strict=True):
                        yield ExpressionBlock(None if draw is None else i, target, place, values)
                    start = place.stop

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
        inference, cells = {}, None
        if swap != "encoder_decoder":
            inference = self._infer(tensors, draw)
            cells = self._level_free_part(tensors, inference, genes, draw)
        own = levels_of(tensors)
        for together in batched(targets, max(1, ROWS // len(own))):
            levels = target_levels(own, together)
            if swap == "encoder_decoder":
                inputs = self.module._get_inference_input(tensors, draw=draw)
                inference = self.module.inference(**inputs | {"levels": levels})
            z = inference["z"] if swap != "content" else None
            x_hat = self._predict(tensors, inference, draw, levels, genes, cells, z)
            yield from self.module.scaler.inverse(x_hat, genes)

    def _predict(
        self,
        tensors: dict[str, Tensor],
        inference: dict[str, Tensor],
        draw: EffectsDraw | None = None,
        levels: Tensor | None = None,
        genes: Tensor | None = None,
        cells: LevelFreePart | None = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Scaled expression of a minibatch under some levels, by default its own."""
        own = levels_of(tensors)
        levels = own if levels is None else levels
        if z is None:
            z = self._latent_in(inference, levels, draw)
        state = self._states(tensors)
        return self.module.predict(
            z, levels, inference["content"], own, state=state, genes=genes, draw=draw, cells=cells
        )

    def _level_free_part(
        self,
        tensors: dict[str, Tensor],
        inference: dict[str, Tensor],
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> LevelFreePart | None:
        """Part of the prediction of a minibatch that does not depend on the levels."""
        own, state = levels_of(tensors), self._states(tensors)
        return self.module.level_free_part(inference["content"], own, state, genes, draw)

    def _residual(
        self,
        tensors: dict[str, Tensor],
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> Tensor:
        """What the reconstruction misses of a minibatch, in log-expression."""
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


def expression_blocks(
    model: SwapMixin,
    adata: AnnData | MuData | None,
    indices: Indices | None,
    transform_batch: Sequence[Target | None],
    n_samples: int | None = None,
    swap: Swap | None = None,
    unseen_batch: UnseenBatch = "error",
) -> Iterator[ExpressionBlock]:
    """Do as :meth:`SwapMixin.iter_expression`, for tools that warn of extrapolation themselves."""
    cells = adata, indices, None, None, unseen_batch
    return model._iter_expression(cells, transform_batch, n_samples, swap)


@torch.inference_mode()
def residuals(
    model: SwapMixin, adata: AnnData | MuData | None, indices: Indices | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Measured log-expression of minibatches, and what the reconstruction misses of it."""
    for tensors in model._minibatches(adata, indices, None, None):
        yield tensors[REGISTRY_KEYS.X_KEY], model._residual(tensors)


def _seed() -> int:
    """Seed of the draws."""
    return settings.seed if settings.seed is not None else 0
