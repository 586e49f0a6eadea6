"""Tables of a cross-validation in the format of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from ._mixing_classifier import CHANCE, CLASSIFICATION_METRICS

if TYPE_CHECKING:
    from ._cross_validate import CrossValidation

STATISTICS: Final = ["mean", "lower", "upper"]
SEPARATED: Final = {"batch": "batch", "label": "cell type"}
INDICES: Final = {"ASW": "ASW", "1/DB": "1/DB", "CH": "CH"}
ACCURACIES: Final = {metric: metric.replace("_", " ") for metric in CLASSIFICATION_METRICS}
# What the first column says of a row; controls and chance stand below the others.
OWN, JOINT_ROW, CONTROL, CHANCE_ROW = "embedding", "joint", "control", "chance"
NOTES: Final = {
    JOINT_ROW: "Joint methods were fitted to the test cells too.",
    CONTROL: "A gain from RE has to be compared with the controls.",
    CHANCE_ROW: "Chance guesses in the proportions of the training cells.",
}


def paper_tables(result: CrossValidation) -> dict[str, pd.DataFrame]:
    """Put a cross-validation into tables like the paper's Table 1 and Tables S6 to S12.

    Parameters
    ----------
    result
        Result of :func:`cross_validate`.

    Returns
    -------
    dict of pandas.DataFrame
        ``"clustering"`` (S6 to S11): a row for each embedding; columns ``(of, metric, statistic)``
        with the ASW, 1/DB and CH of ``"batch"`` and ``"cell type"``. For each target
        ``"classification_<target>"`` (Table 1, S12): a row for each embedding and, below it, for
        embedding + RE; columns ``(metric, statistic)`` with ``"accuracy"`` and ``"balanced
        accuracy"`` in percent. Statistics are ``"mean"``, ``"lower"`` and ``"upper"``, the limits
        of the 95% interval over the folds (NaN for one fold).

        The index is ``(kind, embedding)``. Of the kind ``"joint"`` are methods that were fitted
        to the test cells too; ``"control"`` and ``"chance"`` stand at the end.
        ``attrs["caption"]`` says what the table shows.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> tables = smt.bm.paper_tables(result)
    >>> list(tables)
    ['clustering', 'classification_condition']
    >>> tables["classification_condition"].loc["control", "accuracy"].index.tolist()
    ['batch label', 'pca + batch label']
    """
    summary = result.summary()
    over = _folds(result)
    separation = summary[summary["of"].isin(SEPARATED) & summary["metric"].isin(INDICES)]
    tables = {
        "clustering": _table(
            separation.replace({"of": SEPARATED}),
            {"of": [*SEPARATED.values()], "metric": [*INDICES.values()]},
            f"How far batches and cell types are apart in the test cells: mean {over}.",
        )
    }
    for target in result.settings["target_keys"]:
        predicted = summary[(summary["of"] == target) & summary["metric"].isin(ACCURACIES)]
        percent = {statistic: 100 * predicted[statistic] for statistic in STATISTICS}
        tables[f"classification_{target}"] = _table(
            predicted.assign(**percent).replace({"metric": ACCURACIES}),
            {"metric": [*ACCURACIES.values()]},
            f"Random forests that predict {target} of the test cells, in percent: mean {over}.",
        )
    return tables


def _table(rows: pd.DataFrame, columns: dict[str, list[str]], caption: str) -> pd.DataFrame:
    """Spread the rows over the columns, in the order given, with controls and chance last."""
    rows = rows.assign(kind=[_kind(row) for row in rows.itertuples()])
    order = rows[["kind", "embedding"]].drop_duplicates()
    kinds = order["kind"].unique()
    order = order.sort_values(
        "kind", key=lambda kind: kind.map({CONTROL: 1, CHANCE_ROW: 2}).fillna(0), kind="stable"
    )
    wide = rows.pivot(index=["kind", "embedding"], columns=list(columns), values=STATISTICS)
    wide.columns = wide.columns.reorder_levels([*range(1, wide.columns.nlevels), 0])
    names = [*columns, "statistic"]
    levels = pd.MultiIndex.from_product([*columns.values(), STATISTICS], names=names)
    table = wide.reindex(index=pd.MultiIndex.from_frame(order), columns=levels)
    notes = [note for kind, note in NOTES.items() if kind in kinds]
    table.attrs["caption"] = " ".join([caption, *notes])
    return table


def _kind(row: Any) -> str:
    if row.embedding == CHANCE:
        return CHANCE_ROW
    return CONTROL if row.control else JOINT_ROW if row.joint else OWN


def _folds(result: CrossValidation) -> str:
    n, scheme = len(result.settings["folds"]), result.settings["scheme"]
    if n == 1:
        return f"of one fold of {scheme}, without an interval"
    return f"and 95% confidence interval over {n} folds of {scheme}"
