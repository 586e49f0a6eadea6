"""Whether RE tells more of a label than the batch label alone, in one plain sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ._embedders import PERMUTED, RE, RE_CONTROLS
from ._mixing_classifier import BATCH_LABEL, SEPARATOR
from ._summarise import summarise_folds

JUDGED_BY = "balanced_accuracy"
SMALLEST_P = 0.001
ZERO = "zero"


def gains(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """What RE, RE with permuted labels and the batch label add to each embedding.

    Parameters
    ----------
    table
        Results of a cross-validation.
    target
        Column that was predicted.

    Returns
    -------
    pandas.DataFrame
        A row for each fold and embedding: gains in balanced accuracy, in columns ``RE``,
        ``RE, permuted labels`` (NaN without the control) and ``batch label``. The last is beside
        the embedding or of the label alone, whichever is better in the mean over folds, as a
        forest may not find it among many other columns.
    """
    of_target = table[(table["of"] == target) & (table["metric"] == JUDGED_BY)]
    values = of_target.pivot(index="fold", columns="embedding", values="value")
    gained = {}
    for name in values:
        if f"{name}{SEPARATOR}{RE}" not in values:
            continue
        label = max(f"{name}{SEPARATOR}{BATCH_LABEL}", BATCH_LABEL, key=lambda n: values[n].mean())
        beside = {
            RE: values[f"{name}{SEPARATOR}{RE}"],
            PERMUTED: values.get(f"{name}{SEPARATOR}{PERMUTED}", np.nan),
            BATCH_LABEL: values[label],
        }
        gained[name] = pd.DataFrame({k: v - values[name] for k, v in beside.items()})
    return pd.concat(gained, names=["embedding"])


def conclusion(table: pd.DataFrame, target: str, *, known_batches: bool = True) -> str:
    """Say whether the gain from RE exceeds what the batch label alone gives.

    And what RE adds when it is trained on permuted labels, as any second embedding may add
    something. Of batches that were held out the label tells nothing: RE's gain is then judged
    against none.
    """
    gained = gains(table, target)
    names = list(gained.index.unique("embedding"))
    of_folds = gained.groupby("fold").mean()
    of_names = gained[RE].groupby("embedding").mean()
    alone = table[
        (table["of"] == target)
        & (table["metric"] == JUDGED_BY)
        & (table["embedding"] == BATCH_LABEL)
    ]["value"].mean()
    against = {ZERO: of_folds[RE]}
    if known_batches:
        against["that of the batch label"] = of_folds[RE] - of_folds[BATCH_LABEL]
    if of_folds[PERMUTED].notna().any():
        against["that of RE trained on permuted labels"] = of_folds[RE] - of_folds[PERMUTED]
    limits = {name: _interval(values) for name, values in against.items()}
    exceeded = [name for name, (low, _) in limits.items() if low > 0]
    missed = [name for name in limits if name not in exceeded]
    if len(of_folds) < 2:
        verdict = "whether that is more cannot be said from one fold"
    elif missed:
        verdict = f"RE's gain does not exceed {' or '.join(missed)}"
    else:
        verdict = f"RE's gain exceeds {' and '.join(exceeded)}"
    others = ""
    if of_folds[PERMUTED].notna().any():
        others += f", RE trained on permuted labels {of_folds[PERMUTED].mean():+.3f}"
    if known_batches:
        others += f", the batch label, beside them or alone, {of_folds[BATCH_LABEL].mean():+.3f}"
    intervals = "; ".join(
        f"{'its gain' if name == ZERO else f'less {name}'} {low:+.3f} to {high:+.3f}"
        for name, (low, high) in limits.items()
    )
    intervals = "" if len(of_folds) < 2 else f" (95% CI over {len(of_folds)} folds: {intervals})"
    each = "" if len(names) == 1 else f" ({of_names.min():+.3f} to {of_names.max():+.3f})"
    return (
        f"{target}: the batch label alone gives a balanced accuracy of {alone:.2f}. Beside "
        f"{', '.join(names)}, RE gains {of_folds[RE].mean():+.3f}{each}{others}: {verdict}"
        f"{intervals}."
    )


def conclusion_of_votes(judged: pd.DataFrame) -> str:
    """Say how often whole batches are told from each other, with RE and without."""
    judged = judged.set_index("embedding")
    parts = judged.index.str.split(SEPARATOR, regex=False)
    control = {BATCH_LABEL, *RE_CONTROLS}
    shown = judged[[control.isdisjoint(names) for names in parts]]
    each = "; ".join(
        f"{name} {row['balanced_accuracy']:.2f} ({_p_value(row['p_value'])})"
        for name, row in shown.iterrows()
    )
    return (
        f"Balanced accuracy of the votes on {judged['n_batches'].iloc[0]} batches that were held "
        f"out, with p-values of a permutation test each, not corrected for their number: {each}."
    )


def _p_value(p: float) -> str:
    return f"p < {SMALLEST_P}" if p < SMALLEST_P else f"p = {p:.3f}"


def _interval(values: pd.Series) -> tuple[float, float]:
    """Limits of the mean over folds."""
    table = values.rename("value").reset_index().assign(what="")
    return tuple(summarise_folds(table)[["lower", "upper"]].iloc[0])
