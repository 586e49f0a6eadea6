"""Directions that the paper claims for AML, held against our evaluation of AML.

python benchmarks/paper_directions.py          # prints the claims, and each comparison

Makes nothing: it reads ``results/evaluation_cells.json``, which ``evaluation.py`` writes. Numbers
are the paper's means over five folds: Tables 1, S8, S11 and S12, and sections 2.4 and 2.6.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from _record import load, markdown

# Separation: 1/DB and CH of the batch, then of the cell type (Tables S8 and S11).
INDICES = [("1/DB", "batch"), ("CH", "batch"), ("1/DB", "label"), ("CH", "label")]
SEPARATION = {
    "pca": (0.20, 109.69, 0.27, 329.80),
    "ae": (0.19, 117.36, 0.27, 400.15),
    "FE": (0.17, 93.79, 0.25, 323.70),
    "RE": (1.50, 7097.61, 0.18, 139.51),
    "scvi": (0.05, 14.24, 0.29, 885.58),
    "harmony": (0.14, 71.37, 0.21, 298.48),
    "scanorama": (0.16, 85.09, 0.25, 393.25),
    "saucie": (0.16, 109.44, 0.30, 638.71),
    "aec": (0.13, 118.27, 0.33, 1479.67),
    "FEC": (0.11, 116.67, 0.27, 1340.80),
    "scanvi": (0.12, 50.41, 0.61, 1449.83),
}
PAPER = {
    (name, *index): value
    for name, values in SEPARATION.items()
    for index, value in zip(INDICES, values, strict=True)
}
# Silhouette widths that the text gives; the others are in a figure only.
PAPER[("RE", "ASW", "batch")] = 0.69
WIDTHS = {"ae": 0.06, "aec": 0.11, "FE": 0.05, "FEC": 0.08, "scvi": 0.03, "scanvi": 0.22}
PAPER |= {(name, "ASW", "label"): width for name, width in WIDTHS.items()}

# Accuracy and balanced accuracy in %, alone and beside RE (Tables 1 and S12).
PREDICTED = {
    "patient_group": {
        "harmony": (76.5, 38.27, 99.96, 99.92),
        "pca": (94.04, 89.19, 99.95, 99.91),
        "saucie": (91.8, 86.21, 99.94, 99.89),
        "scanorama": (85.6, 67.36, 99.95, 99.91),
        "scanvi": (89.87, 78.09, 99.95, 99.91),
        "FE": (91.56, 82.97, 99.95, 99.91),
        "FEC": (82.12, 56.92, 99.95, 99.9),
        "scvi": (88.43, 76.13, 99.94, 99.88),
    },
    "cell_type": {
        "harmony": (63.58, 49.24, 79.56, 71.42),
        "pca": (78.87, 70.32, 79.73, 71.96),
        "saucie": (74.98, 68.43, 78.82, 72.69),
        "scanorama": (71.01, 60.65, 78.7, 70.74),
        "FE": (76.73, 67.56, 78.87, 70.77),
        "scvi": (72.25, 66.88, 79.15, 73.82),
    },
}
ACCURACIES = ["accuracy", "balanced_accuracy"]
for _target, _rows in PREDICTED.items():
    for _name, _values in _rows.items():
        for _i, _metric in enumerate(ACCURACIES):
            PAPER[(_name, _metric, _target)] = _values[_i] / 100
            PAPER[(f"{_name} + RE", _metric, _target)] = _values[2 + _i] / 100

BASELINES = ["pca", "ae"]
CORRECTED = ["FE", "scvi", "harmony", "scanorama", "saucie"]
SUPERVISED = {"ae": "aec", "FE": "FEC", "scvi": "scanvi"}


class Direction(NamedTuple):
    """Embedding ``a`` has more (``>``) or less (``<``) of a metric than ``b``."""

    table: str
    claim: str
    a: str
    relation: str
    b: str
    metric: str
    of: str

    def paper(self) -> tuple[float | None, float | None]:
        """The paper's numbers of the two; None where it prints none."""
        return tuple(PAPER.get((name, self.metric, self.of)) for name in (self.a, self.b))


def directions() -> list[Direction]:
    """Every direction that the paper claims for AML."""
    claimed = []
    for metric, table in (("1/DB", "S8, S11"), ("CH", "S8, S11"), ("ASW", "section 2.4")):
        claim = "RE separates batches better than any other"
        others = [*BASELINES, *CORRECTED, *SUPERVISED.values()]
        claimed += [Direction(table, claim, "RE", ">", b, metric, "batch") for b in others]
    for metric in ("1/DB", "CH"):
        claim = "corrected embeddings separate batches less than PCA and AE"
        claimed += [
            Direction("S8", claim, a, "<", b, metric, "batch")
            for a in CORRECTED
            for b in BASELINES
        ]
    claim = "corrected embeddings separate cell types less than PCA and AE"
    claimed += [
        Direction("section 2.4", claim, a, "<", b, "ASW", "label")
        for a in CORRECTED
        for b in BASELINES
    ]
    for metric, table in (("ASW", "section 2.6"), ("1/DB", "S8, S11"), ("CH", "S8, S11")):
        claim = "labels in training separate cell types better"
        claimed += [
            Direction(table, claim, a, ">", b, metric, "label") for b, a in SUPERVISED.items()
        ]
    for target, rows in PREDICTED.items():
        table = "1" if target == "patient_group" else "S12"
        for metric in ACCURACIES:
            claim = "with RE beside it an embedding predicts better"
            claimed += [
                Direction(table, claim, f"{name} + RE", ">", name, metric, target) for name in rows
            ]
    single = [name for name in PREDICTED["patient_group"] if name not in ("pca", "harmony")]
    for claim, a, relation, others in (
        ("PCA alone predicts best", "pca", ">", ["harmony", *single]),
        ("Harmony alone predicts worst", "harmony", "<", ["pca", *single]),
    ):
        claimed += [
            Direction("1", claim, a, relation, b, "balanced_accuracy", "patient_group")
            for b in others
        ]
    return claimed


def compared() -> pd.DataFrame:
    """A row for each direction whose two embeddings we have: whether ours agrees."""
    ours = pd.DataFrame(load("evaluation_cells")["results"]).set_index(
        ["embedding", "metric", "of"]
    )
    rows = []
    for claim in directions():
        keys = [(name, claim.metric, claim.of) for name in (claim.a, claim.b)]
        if not all(key in ours.index for key in keys):
            continue
        a, b = (ours.loc[key] for key in keys)
        difference = a["mean"] - b["mean"]
        sign = 1 if claim.relation == ">" else -1
        paper_a, paper_b = claim.paper()
        rows.append(
            {
                **claim._asdict(),
                "paper_a": paper_a,
                "paper_b": paper_b,
                "ours_a": a["mean"],
                "ours_b": b["mean"],
                "difference": difference,
                "agrees": sign * difference > 0,
                "clear": bool(a["lower"] > b["upper"] or b["lower"] > a["upper"]),
            }
        )
    return pd.DataFrame(rows)


def tables() -> dict[str, str]:
    frame = compared()
    return {"aml": by_claim(frame), "each": each(frame)}


def by_claim(frame: pd.DataFrame) -> str:
    rows = []
    for (table, claim, metric, of), part in frame.groupby(
        ["table", "claim", "metric", "of"], sort=False
    ):
        against = part[~part["agrees"]]
        rows.append(
            {
                "table": table,
                "claim": claim,
                "metric": f"{metric.replace('_', ' ')}, {of.replace('_', ' ')}",
                "agrees": f"{part['agrees'].sum()} of {len(part)}",
                "clear": int((part["agrees"] & part["clear"]).sum()),
                "mean": f"{part['difference'].mean():+.3g}",
                "against": "; ".join(
                    f"{row['a']} - {row['b']}: {row['difference']:+.2g}"
                    + (" (clear)" if row["clear"] else "")
                    for _, row in against.iterrows()
                ),
            }
        )
    columns = {"table": "{table}", "the paper's claim": "{claim}", "metric": "{metric}"}
    columns |= {"agree": "{agrees}", "of them clear": "{clear}"}
    columns |= {"our mean difference": "{mean}", "against it": "{against}"}
    return markdown(rows, columns)


def each(frame: pd.DataFrame) -> str:
    rows = [
        row
        | {
            "paper": " / ".join(
                "not printed" if pd.isna(row[key]) else f"{row[key]:.4g}"
                for key in ("paper_a", "paper_b")
            ),
            "verdict": ("agrees" if row["agrees"] else "not") + (", clear" * row["clear"]),
        }
        for row in frame.to_dict("records")
    ]
    columns = {"table": "{table}", "direction": "{a} {relation} {b}", "metric": "{metric}, {of}"}
    columns |= {"paper": "{paper}", "ours": "{ours_a:.3g} / {ours_b:.3g}"}
    return markdown(rows, columns | {"difference": "{difference:+.3g}", "verdict": "{verdict}"})


if __name__ == "__main__":
    for text in tables().values():
        print(text, end="\n\n")
