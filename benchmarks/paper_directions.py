"""What the paper says of AML, held against our evaluation of AML.

python benchmarks/paper_directions.py          # prints all tables, and each single comparison

Two comparisons: of the directions that its text claims, and of all pairs in its tables. Makes
nothing: it reads ``results/evaluation_cells.json``, which ``evaluation.py`` writes.
"""

from __future__ import annotations

from typing import NamedTuple

import _paper_pairs
import pandas as pd
from _paper_numbers import MEANS, embeddings
from _record import load, markdown

from scmedal_tools.ext import display_names

RECORD = "evaluation_cells"
ACCURACIES = ["accuracy", "balanced_accuracy"]
BASELINES = ["pca", "ae"]
CORRECTED = ["FE", "scvi", "harmony", "scanorama", "saucie"]
SUPERVISED = {"ae": "aec", "FE": "FEC", "scvi": "scanvi"}
ALONE = {
    (table, target): [name for name in embeddings(table) if not name.endswith(" + RE")]
    for table, target in (("1", "patient_group"), ("S12", "cell_type"))
}
GAIN = "gain in balanced accuracy"
PAPER = MEANS | {
    (name, GAIN, "cell_type"): MEANS[(f"{name} + RE", "balanced_accuracy", "cell_type")]
    - MEANS[(name, "balanced_accuracy", "cell_type")]
    for name in ALONE["S12", "cell_type"]
}


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

    def holds(self, difference: float) -> bool:
        return difference > 0 if self.relation == ">" else difference < 0


def directions() -> list[Direction]:
    """Every direction of these metrics that the text claims for AML."""
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
    for metric, table in (("ASW", "section 2.4"), ("1/DB", "S8"), ("CH", "S8")):
        claim = "corrected embeddings separate cell types less than PCA and AE"
        claimed += [
            Direction(table, claim, a, "<", b, metric, "label")
            for a in CORRECTED
            for b in BASELINES
        ]
    for metric, table in (("ASW", "section 2.6"), ("1/DB", "S8, S11"), ("CH", "S8, S11")):
        claim = "labels in training separate cell types better"
        claimed += [
            Direction(table, claim, a, ">", b, metric, "label") for b, a in SUPERVISED.items()
        ]
    for (table, target), names in ALONE.items():
        for metric in ACCURACIES:
            claim = "with RE beside it an embedding predicts better"
            claimed += [
                Direction(table, claim, f"{name} + RE", ">", name, metric, target)
                for name in names
            ]
    claim = "RE beside it helps Harmony most, others modestly"
    claimed += [
        Direction("S12", claim, "harmony", ">", b, GAIN, "cell_type")
        for b in ALONE["S12", "cell_type"]
        if b != "harmony"
    ]
    single = [name for name in ALONE["1", "patient_group"] if name not in ("pca", "harmony")]
    for claim, a, relation, others in (
        ("PCA alone predicts best", "pca", ">", ["harmony", *single]),
        ("Harmony alone predicts worst", "harmony", "<", ["pca", *single]),
    ):
        claimed += [
            Direction("1", claim, a, relation, b, "balanced_accuracy", "patient_group")
            for b in others
        ]
    return claimed


def measured() -> dict[tuple[str, str, str], dict]:
    """Our means and intervals; those of a gain are as wide as both of its parts allow."""
    ours = {(row["embedding"], row["metric"], row["of"]): row for row in load(RECORD)["results"]}
    for name in ALONE["S12", "cell_type"]:
        alone = ours[(name, "balanced_accuracy", "cell_type")]
        both = ours[(f"{name} + RE", "balanced_accuracy", "cell_type")]
        ours[(name, GAIN, "cell_type")] = {
            "mean": both["mean"] - alone["mean"],
            "lower": both["lower"] - alone["upper"],
            "upper": both["upper"] - alone["lower"],
        }
    return ours


def compared() -> pd.DataFrame:
    """A row for each direction: whether ours agrees, and whether the paper's own numbers do."""
    ours = measured()
    rows = []
    for claim in directions():
        a, b = (ours[(name, claim.metric, claim.of)] for name in (claim.a, claim.b))
        paper_a, paper_b = claim.paper()
        in_paper = "not printed"
        if None not in (paper_a, paper_b):
            in_paper = "yes" if claim.holds(paper_a - paper_b) else "no"
        rows.append(
            {
                **claim._asdict(),
                "in_paper": in_paper,
                "paper_a": paper_a,
                "paper_b": paper_b,
                "ours_a": a["mean"],
                "ours_b": b["mean"],
                "difference": a["mean"] - b["mean"],
                "agrees": claim.holds(a["mean"] - b["mean"]),
                "clear": a["lower"] > b["upper"] or b["lower"] > a["upper"],
            }
        )
    return pd.DataFrame(rows)


def tables() -> dict[str, str]:
    claims = compared()
    pairs = _paper_pairs.pairs(load(RECORD)["results"])
    made = {
        "overall": overall(claims, pairs),
        "aml": by_claim(claims),
        "pairs": _paper_pairs.by_column(pairs),
        "each": each(claims),
        "each_pair": _paper_pairs.each(pairs),
    }
    return {name: display_names(table) for name, table in made.items()}


def overall(claims: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """How much agrees, of the claims and of all pairs."""
    against = claims[~claims["agrees"]]
    ties = int((against["difference"] == 0).sum())
    rows = [
        *_paper_pairs.in_sum(pairs),
        {
            "what": "directions that the text claims",
            "compared": len(claims),
            "agrees": claims["agrees"].sum(),
        }
        | {"against": len(against) - ties, "clear": against["clear"].sum(), "tie here": ties},
    ]
    columns = {"compared": "{what}"} | _paper_pairs.COUNTED
    columns.pop("clear in the paper too")
    return markdown(rows, columns)


def by_claim(frame: pd.DataFrame) -> str:
    rows = []
    for (table, claim, metric, of), part in frame.groupby(
        ["table", "claim", "metric", "of"], sort=False
    ):
        rows.append(
            {
                "table": table,
                "claim": claim,
                "metric": _paper_pairs.what(metric, of),
                "own": in_the_paper(part),
                "agrees": f"{part['agrees'].sum()} of {len(part)}",
                "clear": int((part["agrees"] & part["clear"]).sum()),
                "mean": f"{part['difference'].mean():+.3g}",
                "against": "; ".join(
                    f"{row['a']} - {row['b']}: {row['difference']:+.2g}"
                    + (" (clear)" if row["clear"] else "")
                    for _, row in part[~part["agrees"]].iterrows()
                ),
            }
        )
    columns = {"table": "{table}", "the paper's claim": "{claim}", "metric": "{metric}"}
    columns |= {"in the paper's own numbers": "{own}"}
    columns |= {"agree here": "{agrees}", "of them clear": "{clear}"}
    columns |= {"our mean difference": "{mean}", "against it here": "{against}"}
    return markdown(rows, columns)


def in_the_paper(part: pd.DataFrame) -> str:
    """In how many of the numbers that the paper prints its claim holds, and in which not."""
    printed = part[part["in_paper"] != "not printed"]
    if printed.empty:
        return "not printed"
    failed = printed[printed["in_paper"] == "no"]
    names = ", ".join(f"{a} - {b}" for a, b in zip(failed["a"], failed["b"], strict=True))
    held = f"{len(printed) - len(failed)} of {len(printed)}"
    return f"{held}: **not** {names}" if names else held


def each(frame: pd.DataFrame) -> str:
    rows = [
        row
        | {
            "paper": " / ".join(
                "not printed" if pd.isna(row[key]) else f"{row[key]:.4g}"
                for key in ("paper_a", "paper_b")
            ),
            "what": _paper_pairs.what(row["metric"], row["of"]),
            "verdict": ("agrees" if row["agrees"] else "not") + (", clear" * row["clear"]),
        }
        for row in frame.to_dict("records")
    ]
    columns = {"table": "{table}", "direction": "{a} {relation} {b}", "metric": "{what}"}
    columns |= {"paper": "{paper}", "holds there": "{in_paper}"}
    columns |= {"ours": "{ours_a:.3g} / {ours_b:.3g}"}
    return markdown(rows, columns | {"difference": "{difference:+.3g}", "verdict": "{verdict}"})


if __name__ == "__main__":
    for text in tables().values():
        print(text, end="\n\n")
