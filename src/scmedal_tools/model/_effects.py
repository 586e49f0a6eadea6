"""What each batch does, as tables: units of a layer, or genes."""

from __future__ import annotations

from itertools import batched
from typing import TYPE_CHECKING

import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from torch.nn.functional import one_hot

from scmedal_tools._data import check_argument, whole
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import levels_of

from ._memory_advice import INFERENCE, memory_advice
from ._targets import ROWS, target_levels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scmedal_tools.module import EffectsDraw

    from ._inference import Indices, Minibatches
    from ._swap import ExpressionBlock
    from ._targets import Levels

GENES = "genes"


class BatchEffectsMixin(BaseModelClass):
    """Tables of the random effects; subclasses give module, counterfactuals and draws."""

    @memory_advice(INFERENCE)
    @torch.inference_mode()
    @with_shared_parts
    def get_batch_effects(
        self,
        *,
        layer: str = GENES,
        factor: str | None = None,
        n_samples: int = 50,
        n_cells: int = 1_000,
        seed: int = 0,
    ) -> pd.DataFrame:
        r"""Effects of each batch: posterior means and standard deviations.

        Parameters
        ----------
        layer
            ``"genes"``: the effect on the expression of each gene, of all parts of the model
            together; or the name of a layer, for its random slopes and biases (scMEDAL, section
            4.2.2), for example ``"bottleneck"`` or ``"output"``.
        factor
            Factor whose levels the table is of, one of ``model.factors``; ``None`` for the batch.
        n_samples
            Number of posterior draws from which the standard deviations on genes are found, of a
            model without effects on single genes; those of the others are exact.
        n_cells
            Number of training cells, drawn at random, over which effects on genes are averaged;
            the same for all batches, so that their composition makes no difference.
        seed
            Seed of this choice.

        Returns
        -------
        pandas.DataFrame
            Index ``(batch, gene)`` or ``(batch, unit)``, or the factor's name instead of
            ``batch``. For genes: ``effect``, the mean
            difference between the log-expression of the cells in the batch and in the
            population, its ``sd``, ``z``, their quotient, ``lfsr``, the local false
            sign rate (the posterior probability that the gene has practically no effects, or this
            one the other sign), and ``p_nonzero``, the posterior probability that the gene has
            effects: that it follows the network's guess, or that their variances are not the
            smallest that are considered (0.00025 of that of the cells). Rank by ``lfsr``.
            For a layer: ``slope``, ``slope_sd``, ``bias`` and ``bias_sd``.

        Raises
        ------
        ValueError
            If the model has no such factor, or no such layer with random effects, there are too
            few draws, or effects on genes are asked of a model without its training cells.
        %(untrained)s

        Notes
        -----
        Only differences between batches have a meaning of their own: what all share is part of the
        population.

        Examples
        --------
        >>> effects = model.get_batch_effects()
        >>> list(effects.columns)
        ['effect', 'sd', 'z', 'lfsr', 'p_nonzero']
        >>> top = effects.loc["donor_02"].nsmallest(10, "lfsr")
        >>> top.shape
        (10, 5)

        Slopes and biases of the layer that turns the content into the latent:

        >>> list(model.get_batch_effects(layer="bottleneck").columns)
        ['slope', 'slope_sd', 'bias', 'bias_sd']
        """
        self._check_if_trained(warn=False, message="Call `model.train()` first.")
        position = position_of(self, factor)
        names = list(self.factors.values())[position]
        if layer == GENES:
            columns, units = self._effects_on_genes(position, n_samples, n_cells, seed)
        else:
            columns, units = self._effects_in(layer, position)
        unit = "gene" if layer == GENES else "unit"
        index = pd.MultiIndex.from_product([names, units], names=[factor or "batch", unit])
        table = pd.DataFrame({k: v.cpu().numpy().ravel() for k, v in columns.items()}, index)
        return table

    def _effects_in(self, layer: str, factor: int) -> tuple[dict[str, Tensor], Iterable]:
        """Slopes and biases of a layer, and its units."""
        tables = self.module.effect_tables
        layers = [name.removesuffix(".slope") for name in tables if name.endswith(".slope")]
        layers = [name for name in layers if ".crossed." not in name]
        if layer not in layers:
            raise ValueError(
                f"layer={layer!r} has no random effects. Choose from {GENES!r}, "
                f"{', '.join(map(repr, layers))}."
            )
        prefix = f"{layer}.crossed.{factor - 1}" if factor else layer
        columns: dict[str, Tensor] = {}
        for kind in ("slope", "bias"):
            table = tables[f"{prefix}.{kind}"]
            columns |= {kind: table.loc, f"{kind}_sd": table.posterior_sd}
        n_units = columns["slope"].shape[1]
        return columns, self.gene_names if layer == "output" else range(n_units)

    def _effects_on_genes(
        self, factor: int, n_samples: int, n_cells: int, seed: int
    ) -> tuple[dict[str, Tensor], Iterable]:
        """Mean effects on genes and their standard deviations, and the genes."""
        check_argument("n_samples", n_samples, whole())
        if n_samples < 2:
            raise ValueError(f"n_samples={n_samples} gives no standard deviation: pass 2 or more.")
        if self.module.has_gene_effects:
            some = self._training_minibatches(n_cells, seed)
            sizes, of_network = network_effects(self, factor, dataloader=some)
            weights = sizes[0] / sizes[0].sum()
            found = self.module.gene_effects.averages(factor, weights, of_network[0])
            scale = self.module.scaler.scale.cpu()
            mean, sd = scale * found.mean, scale * found.sd
            below, above = found.negative, found.positive
        else:
            cells = self._some_training_cells(n_cells, seed)
            mean = self._mean_effects(cells, factor)
            drawn = torch.stack(list(self._drawn_effects(n_samples, cells, factor)))
            sd = drawn.std(0)
            ratio = mean / sd.clamp_min(1e-12)
            below, above = torch.special.ndtr(-ratio), torch.special.ndtr(ratio)
        z = torch.where(sd > 0, mean / sd, 0.0)
        nonzero = (below + above).clamp(0, 1)
        lfsr = (1 - torch.maximum(below, above)).clamp(min=0)
        columns = {"effect": mean, "sd": sd, "z": z, "lfsr": lfsr, "p_nonzero": nonzero}
        return columns, self.gene_names

    def _some_training_cells(self, n_cells: int, seed: int) -> Minibatches:
        """Minibatches of some training cells, which can be read again and again."""
        some = self._training_minibatches(n_cells, seed)
        return self._minibatches(None, None, None, some)

    def _drawn_effects(
        self, n_samples: int, cells: Minibatches, factor: int = 0
    ) -> Iterator[Tensor]:
        """Mean effects over cells in each posterior draw, levels of the factor x genes."""
        for draw in self._draw_effects(n_samples):
            yield self._mean_effects(cells, factor, draw)

    def _levels_alone(self, factor: int) -> list[Levels]:
        """Targets that have one level of a factor, and no effects of others."""
        return [self._population | {factor: k} for k in range(self.module.n_levels[factor])]

    def _mean_effects(
        self, cells: Minibatches, factor: int = 0, draw: EffectsDraw | None = None
    ) -> Tensor:
        """Mean over cells of [at the level - in the population], levels of the factor x genes.

        Other factors are at their population.
        """
        swap = self._check_swap(None)
        targets = [*self._levels_alone(factor), self._population]
        total, n_cells = torch.zeros(()), 0
        for tensors in cells:
            swapped = self._swap(tensors, targets, swap, draw=draw)
            total = total + torch.stack([x.sum(0) for x in swapped]).double().cpu()
            n_cells += len(tensors[REGISTRY_KEYS.X_KEY])
        return (total[:-1] - total[-1]) / n_cells


def position_of(model: BatchEffectsMixin, factor: str | None) -> int:
    """Position of a factor, the batch by default."""
    factors = list(model.factors)
    if factor is not None and factor not in factors:
        raise ValueError(
            f"factor={factor!r} is not a factor of the model. Choose from "
            f"{', '.join(map(repr, factors))}."
        )
    return 0 if factor is None else factors.index(factor)


def drawn_effects(
    model: BatchEffectsMixin, factor: int, n_samples: int, n_cells: int, seed: int
) -> Iterator[Tensor]:
    """Mean effects over some training cells in each posterior draw, levels x genes."""
    return model._drawn_effects(n_samples, model._some_training_cells(n_cells, seed), factor)


def network_effects(
    model: BatchEffectsMixin,
    factor: int,
    adata: AnnData | MuData | None = None,
    indices: Indices | None = None,
    *,
    dataloader: Minibatches | None = None,
    group: np.ndarray | None = None,
    by_state: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean effects of the network alone in groups of cells, and the states of the cells.

    Parameters
    ----------
    factor
        Position of the factor.
    adata, indices, dataloader
        See :meth:`InferenceMixin.get_latent_representation`.
    group
        Group of each of these cells, 0, 1, ...; by default all are one.
    by_state
        The states are the groups.

    Returns
    -------
    Numbers of cells, groups x states, and effects in the scale of the network, groups x
    levels x genes; NaN without cells.
    """
    module, targets = model.module, model._levels_alone(factor)
    n_states = module.gene_effects.n_states
    n_groups = n_states if by_state else 1 if group is None else group.max() + 1
    sizes = torch.zeros(n_groups, n_states, dtype=torch.double)
    total = torch.zeros(1 + len(targets), n_groups, len(model.gene_names), dtype=torch.double)
    start = 0
    for tensors in model._minibatches(adata, indices, None, dataloader):
        content, own = model._infer(tensors)["content"], levels_of(tensors).to(module.device)
        state = model._state_of(tensors, content).cpu()
        stop = start + len(state)
        if group is None:
            of = state if by_state else torch.zeros_like(state)
        else:
            of = torch.from_numpy(group[start:stop])
        member = one_hot(of, n_groups).double().T
        sizes += member @ one_hot(state, n_states).double()
        sums = [member @ module.decode_in_population(content).double().cpu()]
        for together in batched(targets, max(1, ROWS // len(own))):
            levels = target_levels(own, together)
            z = module.express(content, levels, sample=False)
            sums += [member @ decoded for decoded in module.decode(z, levels).double().cpu()]
        total += torch.stack(sums)
        start = stop
    return sizes, ((total[1:] - total[0]) / sizes.sum(1)[:, None]).swapaxes(0, 1)


def blocks_at_levels(
    model: BatchEffectsMixin,
    factor: int,
    adata: AnnData | MuData | None,
    indices: Indices,
    n_samples: int,
) -> Iterator[ExpressionBlock]:
    """Expression in the population, target ``None``, and at each level of a factor alone.

    Draws are of the posterior as it is: wider ones would count as variance between levels.
    """
    targets = {None: model._population} | dict(enumerate(model._levels_alone(factor)))
    cells = adata, indices, None, None, "error"
    return model._iter_levels(targets, model._check_swap(None), cells, n_samples, spread=1.0)
