"""Whether the random effects of a model have collapsed, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import factor_of

from ._models import check_has_random_effects, held_back_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools._gene_model import MixedEffects
    from scmedal_tools.model import SCMEDAL_RE


@dataclass(frozen=True)
class EffectsDiagnostics:
    """Result of :func:`effects_diagnostics`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> diagnostics = smt.tl.effects_diagnostics(model)
    >>> diagnostics.tables.index.unique("layer").tolist()
    ['encoder.1', 'bottleneck', 'decoder.0', 'output', 'genes']
    """

    tables: pd.DataFrame
    """A row for each table of effects."""
    swap_gap: float
    """Reconstruction error under a wrong batch over that under the right one."""

    def _repr_html_(self) -> str:
        return f"{self.tables._repr_html_()}<p>Swap gap: {self.swap_gap:.4f}</p>"


@with_shared_parts
def effects_diagnostics(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> EffectsDiagnostics:
    """Report what the random effects of each layer have learned.

    Two things go wrong with random effects: they *collapse* to the prior, so that the batch makes
    no difference, or they memorise, so that even meaningless labels get effects. Compare with a
    model trained on permuted labels: its swap gap should be 1 and its effects near zero.

    Parameters
    ----------
    model
        Trained model.
    adata, indices
        Cells for the swap gap, best not used in training; by default the model's test cells, else
        its validation cells.

    Returns
    -------
    EffectsDiagnostics
        ``tables`` has a row for each layer and kind (slope or bias): ``prior_sd``, the learned
        scale of the prior, and ``start_prior_sd``; ``posterior_sd``, the median, and
        ``start_posterior_sd``; ``posterior_to_prior``, the median of their ratio (1: the data were
        uninformative); ``size``, the median absolute posterior mean; ``signal_to_noise``, the root
        mean square of posterior mean over posterior s.d.; ``n_units``. The two mixed models of
        single genes are the rows of the layer ``"genes"``; their scales, one for each gene, are
        medians over those that have an effect. Layers of further factors have their name in
        brackets. ``swap_gap`` is the second result.

    Raises
    ------
    %(untrained)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> diagnostics = smt.tl.effects_diagnostics(model)
    >>> diagnostics.tables.loc["output", ["prior_sd", "start_prior_sd", "n_units"]].shape
    (2, 3)
    >>> diagnostics.swap_gap > 1
    True
    """
    check_has_random_effects(model)
    if adata is None and indices is None:
        indices = held_back_cells(model)
    swap_gap = model.get_swap_gap(adata, indices)
    suffixes = ["", *(f" ({factor})" for factor in list(model.factors)[1:])]
    rows = []
    for name, table in model.module.effect_tables.items():
        layer, kind = name.rsplit(".", 1)
        layer = layer.partition(".crossed.")[0] + suffixes[factor_of(name)]
        mean, sd = table.loc.detach().cpu(), table.posterior_sd.detach().cpu()
        prior_sd = float(table.prior_sd.detach())
        rows.append(
            {
                "layer": layer,
                "kind": kind,
                "prior_sd": prior_sd,
                "start_prior_sd": table.start.prior_sd,
                "posterior_sd": float(sd.median()),
                "start_posterior_sd": table.start.posterior_sd,
                "posterior_to_prior": float((sd / prior_sd).median()),
                "size": float(mean.abs().median()),
                "signal_to_noise": float((mean / sd).square().mean().sqrt()),
                "n_units": mean.shape[1],
            }
        )
    if model.module.has_gene_effects:
        rows += [
            {"layer": f"genes{suffix}", "kind": "effects"} | _of_genes(effects)
            for suffix, effects in zip(suffixes, model.module.gene_effects.factors, strict=True)
        ]
    return EffectsDiagnostics(pd.DataFrame(rows).set_index(["layer", "kind"]), swap_gap)


def _of_genes(effects: MixedEffects) -> dict:
    mean, sd = effects.loc.cpu(), effects.sd.cpu()
    prior_sd = (effects.scale * effects.ratios.sum(0).sqrt()).cpu()
    alive = effects.probabilities[:, 0].cpu() < 0.5  # the first variances do not matter
    sd, prior_sd = sd[:, :, alive], prior_sd[:, alive]
    return {
        "prior_sd": float(prior_sd.median()),
        "start_prior_sd": float("nan"),
        "posterior_sd": float(sd.median()),
        "start_posterior_sd": float("nan"),
        "posterior_to_prior": float((sd / prior_sd).median()),
        "size": float(mean.abs().median()),
        "signal_to_noise": float((mean[:, :, alive] / sd).square().mean().sqrt()),
        "n_units": mean.shape[2],
    }
