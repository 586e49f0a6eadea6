"""What each batch does, as tables: units of a layer, or genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from torch import Tensor

GENES = "genes"


class BatchEffectsMixin:
    """Tables of the random effects; subclasses give module, counterfactuals and draws."""

    @torch.inference_mode()
    def get_batch_effects(
        self, layer: str = GENES, *, n_samples: int = 50, n_cells: int = 1_000, seed: int = 0
    ) -> pd.DataFrame:
        r"""Posterior mean and standard deviation of what each batch does.

        Parameters
        ----------
        layer
            ``"genes"``: the effect on the expression of each gene, of all parts of the model
            together; or the name of a layer, for its random slopes and biases (scMEDAL, section
            4.2.2), for example ``"bottleneck"`` or ``"output"``.
        n_samples
            Number of posterior draws from which the standard deviations on genes are found.
        n_cells
            Number of training cells, drawn at random, over which effects on genes are averaged;
            the same for all batches, so that their composition makes no difference.
        seed
            Seed of this choice.

        Returns
        -------
        pandas.DataFrame
            Index ``(batch, gene)`` or ``(batch, unit)``. For genes: ``effect``, the mean
            difference between the expression of the cells in the batch and in the population, in
            the units of the input, its ``sd``, and ``z``, their quotient. For a layer: ``slope``,
            ``slope_sd``, ``bias`` and ``bias_sd``.

        Raises
        ------
        ValueError
            If the model has no such layer with random effects, or there are too few draws.
        RuntimeError
            If the model is not trained.

        Notes
        -----
        Only differences between batches have a meaning of their own: what all share is part of the
        population.

        Examples
        --------
        >>> effects = model.get_batch_effects()  # doctest: +SKIP
        >>> effects.loc["donor_02"].nlargest(10, "z")  # doctest: +SKIP
        """
        self._check_if_trained(warn=False, message="Call `model.train()` first.")
        if layer == GENES:
            return self._effects_on_genes(n_samples, n_cells, seed)
        tables = self.module.effect_tables
        layers = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in tables))
        if layer not in layers:
            raise ValueError(
                f"layer={layer!r} has no random effects. Choose from {GENES!r}, "
                f"{', '.join(map(repr, layers))}."
            )
        columns = {}
        for kind in ("slope", "bias"):
            table = tables[f"{layer}.{kind}"]
            columns |= {kind: table.loc, f"{kind}_sd": table.posterior_sd}
        n_units = tables[f"{layer}.slope"].loc.shape[1]
        units = self.get_var_names() if layer == "output" else range(n_units)
        index = pd.MultiIndex.from_product([self.batch_names, units], names=["batch", "unit"])
        return pd.DataFrame({k: v.cpu().numpy().ravel() for k, v in columns.items()}, index)

    def _effects_on_genes(self, n_samples: int, n_cells: int, seed: int) -> pd.DataFrame:
        if n_samples < 2:
            raise ValueError(f"n_samples={n_samples} gives no standard deviation: pass 2 or more.")
        cells = np.random.default_rng(seed).permutation(self.train_indices)[:n_cells]
        mean = self._mean_effects(np.sort(cells))
        draws = []
        for draw in self._draw_effects(n_samples):
            with self.module.effects_fixed_at(draw):
                draws.append(self._mean_effects(np.sort(cells)))
        sd = torch.stack(draws).std(0)
        index = pd.MultiIndex.from_product(
            [self.batch_names, self.get_var_names()], names=["batch", "gene"]
        )
        table = pd.DataFrame({"effect": mean.numpy().ravel(), "sd": sd.numpy().ravel()}, index)
        return table.assign(z=(table["effect"] / table["sd"]).where(table["sd"] > 0, 0.0))

    def _mean_effects(self, cells: np.ndarray) -> Tensor:
        """Mean of [in the batch - in the population] over cells, batches x genes."""
        genes, swap = slice(None), self._check_swap(None)
        codes = [*range(self.module.n_batch), None]
        total = 0.0
        for tensors in self._minibatches(None, cells, None, None):
            swapped = torch.stack([x.sum(0) for x in self._swap(tensors, codes, swap, genes)])
            total = total + swapped.double().cpu()
        return (total[:-1] - total[-1]) / len(cells)
