"""The paper's numbers of AML beside ours, with its preset and with a former default.

python benchmarks/paper.py          # prints the tables, from the results of evaluation.py
python benchmarks/paper.py figure   # draws docs/_static/paper_numbers.png

The paper's numbers are means over five folds of all 38,417 cells, with cell lines as a third
patient group; ours are of day 0, without cell lines.
"""

from __future__ import annotations

import sys

import _paper_pairs
import pandas as pd
from _paper_numbers import MEANS
from _record import ROOT, load, markdown

from scmedal_tools.ext import display_names

SHOWN = (
    *("pca", "ae", "aec", "harmony", "scanorama", "saucie"),
    *("scvi", "scanvi", "FE", "FEC", "RE"),
)
PRINTED = {name: display_names(name) for name in SHOWN}
# The second is of defaults that have changed since.
PRESET, DEFAULT = "paper's preset", "former default"
RECORDS = {PRESET: "evaluation_cells_paper-aml", DEFAULT: "evaluation_cells"}
SOURCES = ("paper", *RECORDS)
INDICES = ("ASW", "1/DB", "CH")
SEPARATED = {"batch": "batches", "label": "cell types"}
TARGETS = {"patient_group": "patient group", "cell_type": "cell type"}
METRICS = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy"}
WITH_RE, WITH_LABEL = " + RE", " + batch label"
FIGURE = ROOT / "docs" / "_static" / "paper_numbers.png"


def numbers() -> pd.DataFrame:
    """Means by embedding, target and metric (index): the paper's, and of each of our records."""
    found = {"paper": pd.Series(MEANS).reorder_levels([0, 2, 1])}
    for name, record in RECORDS.items():
        rows = pd.DataFrame(load(record)["results"])
        found[name] = rows.set_index(["embedding", "of", "metric"])["mean"]
    return pd.DataFrame(found).sort_index()


def tables() -> dict[str, str]:
    means = numbers()
    made = {f"separation_{of}": separation(means, of) for of in SEPARATED}
    for target in TARGETS:
        made |= {f"{target}_{metric}": predicted(means, target, metric) for metric in METRICS}
    return made | {"presets": orders(), "other_orders": other_orders()}


def separation(means: pd.DataFrame, of: str) -> str:
    """Each index of the separation of batches or cell types."""
    keys = {f"{index}, {source}": (of, index, source) for index in INDICES for source in SOURCES}
    return _table(means, {title: ("", *key) for title, key in keys.items()})


def predicted(means: pd.DataFrame, target: str, metric: str) -> str:
    """Prediction from each embedding, alone and with RE or the batch label beside it."""
    keys = {
        f"{title}, {source}": (beside, target, metric, source)
        for beside, title in (("", "alone"), (WITH_RE, "with RE"))
        for source in SOURCES
    }
    keys[f"with the batch label, {DEFAULT}"] = (WITH_LABEL, target, metric, DEFAULT)
    return _table(means, keys)


def _table(means: pd.DataFrame, keys: dict[str, tuple[str, str, str, str]]) -> str:
    values = means.stack()
    rows = []
    for name, printed in PRINTED.items():
        row = {
            title: values.get((name + beside, of, metric, source), float("nan"))
            for title, (beside, of, metric, source) in keys.items()
        }
        if not all(pd.isna(value) for value in row.values()):
            texts = {title: _text(title, value) for title, value in row.items()}
            rows.append({"embedding": printed} | texts)
    return markdown(rows, {key: f"{{{key}}}" for key in ("embedding", *keys)})


def _text(title: str, value: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.0f}" if title.startswith("CH") else f"{value:.2f}"


def orders() -> str:
    """How many pairs with FE or RE are in the paper's order, of what both records have."""
    counts = {
        name: {row["what"]: row for row in _paper_pairs.in_sum(pairs)}
        for name, pairs in pairs_of_both().items()
    }
    rows = [
        {"what": what, "pairs": counts[DEFAULT][what]["compared"]}
        | {name: of[what]["agrees"] for name, of in counts.items()}
        for what in counts[DEFAULT]
    ]
    columns = {"compared": "{what}", "pairs": "{pairs}"}
    return markdown(rows, columns | {f"agree, {name}": f"{{{name}}}" for name in RECORDS})


def other_orders() -> str:
    """Each pair of methods that a record does not have in the paper's order."""
    of_paper, of_default = (
        pairs[~pairs["kind"].str.endswith("against alone")].to_dict("records")
        for pairs in pairs_of_both().values()
    )
    rows = []
    for row, default in zip(of_paper, of_default, strict=True):
        agree = [one["verdict"] == "agrees" for one in (row, default)]
        if row["verdict"] == "tie in the paper" or all(agree):
            continue
        what = f"{row['metric'].replace('_', ' ')}, {(SEPARATED | TARGETS)[row['of']]}"
        pair = display_names(f"{row['a']} > {row['b']}")
        line = {"what": what, "pair": pair, "is_back": agree[0]}
        line |= {"paper": "{paper_a:.5g} / {paper_b:.5g}".format(**row)}
        for name, one, agrees in zip(RECORDS, (row, default), agree, strict=True):
            sign = "yes" if agrees else "tie" if one["verdict"] == "tie here" else "no"
            line[name] = f"{sign} ({one['ours_a']:.4g} / {one['ours_b']:.4g})"
        rows.append(line)
    rows.sort(key=lambda line: line["is_back"])
    columns = {"column": "{what}", "in the paper": "{pair}", "paper": "{paper}"}
    return markdown(rows, columns | {name: f"{{{name}}}" for name in RECORDS})


def pairs_of_both() -> dict[str, pd.DataFrame]:
    """Pairs with FE or RE that both records have, in the same order."""
    records = {name: load(record)["results"] for name, record in RECORDS.items()}
    shared = set.intersection(
        *({row["embedding"] for row in record} for record in records.values())
    )
    found = {}
    for name, record in records.items():
        pairs = _paper_pairs.pairs(record, shared)
        networks = pairs[["a", "b"]].apply(lambda side: side.str.contains("FE|RE", regex=True))
        found[name] = pairs[networks.any(axis=1)]
    return found


PANELS = {
    "1/DB of batches": ("", "batch", "1/DB"),
    "1/DB of cell types": ("", "label", "1/DB"),
    "patient group, alone": ("", "patient_group", "balanced_accuracy"),
    "patient group, with RE": (WITH_RE, "patient_group", "balanced_accuracy"),
    "cell type, alone": ("", "cell_type", "balanced_accuracy"),
    "cell type, with RE": (WITH_RE, "cell_type", "balanced_accuracy"),
}
# Marker, colour, and place within the row.
MARKERS = {
    "paper": ("D", "#333333", -0.2),
    PRESET: ("o", "#d95f02", 0.0),
    DEFAULT: ("s", "#1f78b4", 0.2),
}


def figure() -> None:
    """One panel for each column of the paper's tables, with a row for each embedding."""
    import matplotlib.pyplot as plt

    values = numbers().stack()
    fig, axes = plt.subplots(1, len(PANELS), figsize=(14, 3.6), sharey=True, layout="constrained")
    for ax, (title, (beside, of, metric)) in zip(axes, PANELS.items(), strict=True):
        for source, (marker, colour, offset) in MARKERS.items():
            y = [row + offset for row in range(len(PRINTED))]
            x = [values.get((name + beside, of, metric, source), float("nan")) for name in PRINTED]
            hollow = colour if source != "paper" else "none"
            ax.scatter(
                x, y, marker=marker, edgecolors=colour, facecolors=hollow,
                s=32, label=source,
            )  # fmt: skip
        if metric == "1/DB" and of == "batch":
            ax.set_xscale("log")
        ax.set_title(title, fontsize=10)
        ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    axes[0].set_yticks(range(len(PRINTED)), PRINTED.values())
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    fig.savefig(FIGURE, dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["figure"]:
        figure()
    else:
        print("\n\n".join(tables().values()))
