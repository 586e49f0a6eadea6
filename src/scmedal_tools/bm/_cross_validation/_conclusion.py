"""Whether RE predicts a label better than the batch label alone, in one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scmedal_tools.ext import display_names

from ._embedders import PERMUTED, RE, RE_CONTROLS
from ._mixing_classifier import BATCH_LABEL, SEPARATOR
from ._summarise_folds import summarise_folds

JUDGED_BY = "balanced_accuracy"
SMALLEST_P = 0.001
MOST_NAMES = 3  # of embeddings that are named one by one


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
        the embedding or for the label alone, whichever is better on average over folds, as a
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
    """Say whether the gain from RE exceeds what the batch label alone gives, then the numbers.

    Also what RE adds when it is trained on permuted labels, as any second embedding may add
    something. For held-out batches the label carries no information: RE's gain is then not
    compared with it.
    """
    gained = gains(table, target)
    of_folds = gained.groupby("fold").mean()
    compared = {"zero": of_folds[RE]}
    means = [
        f"Adding RE to {_named(list(gained.index.unique('embedding')))} changes balanced accuracy "
        f"by {of_folds[RE].mean():+.3f}{_range(gained[RE])}."
    ]
    if of_folds[PERMUTED].notna().any():
        compared["that of RE trained on permuted labels"] = of_folds[RE] - of_folds[PERMUTED]
        means.append(
            f"Adding RE trained on permuted labels changes it by {of_folds[PERMUTED].mean():+.3f}."
        )
    if known_batches:
        compared["that of the batch label"] = of_folds[RE] - of_folds[BATCH_LABEL]
        means.append(
            f"The batch label, added or alone, changes it by {of_folds[BATCH_LABEL].mean():+.3f} "
            f"(more than RE for {_more(gained)})."
        )
    alone = table[
        (table["of"] == target)
        & (table["metric"] == JUDGED_BY)
        & (table["embedding"] == BATCH_LABEL)
    ]["value"].mean()
    return (
        f"{target}: {_verdict(compared)}. {' '.join(means)} The batch label alone reaches "
        f"{alone:.2f}.{_intervals(compared)}"
    )


def _named(embeddings: list[str]) -> str:
    if len(embeddings) > MOST_NAMES:
        return f"{len(embeddings)} embeddings"
    *others, last = map(display_names, embeddings)
    return f"{', '.join(others)} and {last}" if others else last


def _verdict(compared: dict[str, pd.Series]) -> str:
    if len(next(iter(compared.values()))) < 2:
        return "one fold cannot show whether RE's gain exceeds that of the controls"
    said: dict[str, list[str]] = {"exceeds": [], "is not shown to exceed": [], "is below": []}
    for name, values in compared.items():
        low, high = _interval(values)
        verb = "exceeds" if low > 0 else "is below" if high < 0 else "is not shown to exceed"
        said[verb].append(name)
    parts = [f"{verb} {' and '.join(names)}" for verb, names in said.items() if names]
    return f"RE's gain {', but '.join(parts[:2])}{''.join(', and ' + p for p in parts[2:])}"


def _intervals(compared: dict[str, pd.Series]) -> str:
    n_folds = len(next(iter(compared.values())))
    if n_folds < 2:
        return ""
    limits = [
        f"{'the gain' if name == 'zero' else f'minus {name}'} {low:+.3f} to {high:+.3f}"
        for name, (low, high) in ((name, _interval(values)) for name, values in compared.items())
    ]
    return f" 95% CI over {n_folds} folds: {'; '.join(limits)}."


def _range(gained: pd.Series) -> str:
    means = gained.groupby("embedding").mean()
    return "" if len(means) == 1 else f" on average ({means.min():+.3f} to {means.max():+.3f})"


def _more(gained: pd.DataFrame) -> str:
    means = gained.groupby("embedding").mean()
    return f"{(means[BATCH_LABEL] > means[RE]).sum()} of {len(means)} embeddings"


def conclusion_of_votes(judged: pd.DataFrame) -> str:
    """Say how often whole batches are classified correctly, with RE and without."""
    judged = judged.set_index("embedding")
    parts = judged.index.str.split(SEPARATOR, regex=False)
    control = {BATCH_LABEL, *RE_CONTROLS}
    shown = judged[[control.isdisjoint(names) for names in parts]]
    each = "; ".join(
        f"{display_names(name)} {row['balanced_accuracy']:.2f} ({_p_value(row['p_value'])})"
        for name, row in shown.iterrows()
    )
    return (
        f"Balanced accuracy of the votes on {judged['n_batches'].iloc[0]} held-out batches, with "
        f"p-values of a permutation test each, not corrected for multiple testing: {each}."
    )


def _p_value(p: float) -> str:
    return f"p < {SMALLEST_P}" if p < SMALLEST_P else f"p = {p:.3f}"


def _interval(values: pd.Series) -> tuple[float, float]:
    """Limits of the mean over folds."""
    table = values.rename("value").reset_index().assign(what="")
    return tuple(summarise_folds(table)[["lower", "upper"]].iloc[0])
