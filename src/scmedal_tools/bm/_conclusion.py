"""Whether RE tells more of a label than the batch label alone, in one plain sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from ._embedders import RE, RE_CONTROLS
from ._mixing_classifier import BATCH_LABEL, SEPARATOR

JUDGED_BY = "balanced_accuracy"


def gains(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """What RE and the batch label add to the embeddings' balanced accuracy.

    Parameters
    ----------
    table
        Results of a cross-validation.
    target
        Column that was predicted.

    Returns
    -------
    pandas.DataFrame
        A row for each fold, means over the embeddings: gain from ``RE``; gain from the ``batch
        label``, beside the embedding or, if that is better, alone (among many other columns a
        forest may not find it); and their ``difference``.
    """
    of_target = table[(table["of"] == target) & (table["metric"] == JUDGED_BY)]
    values = of_target.pivot(index="fold", columns="embedding", values="value")
    alone = [name for name in values if f"{name}{SEPARATOR}{RE}" in values]
    without = values[alone].to_numpy()
    beside_re = values[[f"{name}{SEPARATOR}{RE}" for name in alone]].to_numpy()
    beside_label = values[[f"{name}{SEPARATOR}{BATCH_LABEL}" for name in alone]].to_numpy()
    of_label = np.maximum(beside_label, values[[BATCH_LABEL]].to_numpy())
    result = pd.DataFrame(
        {RE: (beside_re - without).mean(1), BATCH_LABEL: (of_label - without).mean(1)},
        index=values.index,
    )
    result["difference"] = result[RE] - result[BATCH_LABEL]
    result.attrs["embeddings"] = alone
    return result


def conclusion(table: pd.DataFrame, target: str) -> str:
    """Say whether the gain from RE exceeds what the batch label alone gives."""
    gained = gains(table, target)
    names = gained.attrs["embeddings"]
    of_target = table[(table["of"] == target) & (table["metric"] == JUDGED_BY)]
    label_alone = of_target.loc[of_target["embedding"] == BATCH_LABEL, "value"].mean()
    of_re, of_label, difference = gained[[RE, BATCH_LABEL, "difference"]].mean()
    low, high = interval(gained["difference"].to_numpy())
    if np.isnan(low):
        verdict = "whether they differ cannot be said from one fold"
    elif low > 0:
        verdict = "RE gains more than the batch label does"
    elif high < 0:
        verdict = "RE gains less than the batch label does"
    else:
        verdict = "RE does not gain more than the batch label does"
    limits = (
        "" if np.isnan(low) else f", 95% CI over {len(gained)} folds {low:+.3f} to {high:+.3f}"
    )
    return (
        f"{target}: the batch label alone gives a balanced accuracy of "
        f"{label_alone:.2f}. Over {_named(names)}, RE gains {of_re:+.3f} and the batch label, "
        f"beside them or alone, {of_label:+.3f}: {verdict} (difference {difference:+.3f}{limits})."
    )


def conclusion_of_votes(judged: pd.DataFrame) -> str:
    """Say how often whole batches are told from each other, with RE and without."""
    judged = judged.set_index("embedding")
    parts = judged.index.str.split(SEPARATOR, regex=False)
    others = judged[[RE_CONTROLS.isdisjoint(names) and RE not in names for names in parts]]
    best = others["balanced_accuracy"].idxmax()
    of_re, of_best = (
        f"{judged.loc[name, 'balanced_accuracy']:.2f} (p = {judged.loc[name, 'p_value']:.2f})"
        for name in (RE, best)
    )
    return (
        f"Votes on {judged['n_batches'].iloc[0]} batches that were held out have a balanced "
        f"accuracy of {of_re} with RE, and of {of_best} with the best of the others, {best}."
    )


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Limits of the mean from the t distribution; NaN for a single value."""
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def _named(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} embeddings ({', '.join(names)})"
