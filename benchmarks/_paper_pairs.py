"""Every pair of embeddings in the paper's tables of AML: is the order the same here?

A column's pairs come in three kinds: within the first rows, within the last, and between the two.
The first rows are Table S8's and the embeddings alone; the last Table S11's and those with RE.
"""

from __future__ import annotations

from itertools import combinations, product

import pandas as pd
from _paper_numbers import COLUMNS, NUMBERS, embeddings
from _record import markdown

SEPARATION = ["S8", "S11", "S8 with S11"]
VERDICTS = ["agrees", "against", "tie here", "tie in the paper"]


def kinds() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Table, kind of pairs, and the pairs."""
    types, labels = embeddings("S8"), embeddings("S11")
    found = [
        ("S8", "S8", list(combinations(types, 2))),
        ("S11", "S11", list(combinations(labels, 2))),
        ("S8", "S8 with S11", list(product(types, labels))),
    ]
    for table in ("1", "S12"):
        together = [name for name in embeddings(table) if name.endswith(" + RE")]
        alone = [name for name in embeddings(table) if name not in together]
        found += [
            (table, f"{table}, alone", list(combinations(alone, 2))),
            (table, f"{table}, with RE", list(combinations(together, 2))),
            (table, f"{table}, with RE against alone", list(product(together, alone))),
        ]
    return found


def pairs(results: list[dict], names: set[str] | None = None) -> pd.DataFrame:
    """A row for each pair and column; ``a`` is the one with more in the paper.

    ``names`` limits them to pairs of these embeddings.
    """
    ours = {(row["embedding"], row["metric"], row["of"]): row for row in results}
    rows = []
    for table, kind, of_kind in kinds():
        for column in COLUMNS[table]:
            for pair in of_kind:
                if names is not None and not names.issuperset(pair):
                    continue
                a, b = sorted(pair, key=lambda name: -NUMBERS[(name, *column)].mean)
                paper = [NUMBERS[(name, *column)] for name in (a, b)]
                here = [ours[(name, *column)] for name in (a, b)]
                difference = here[0]["mean"] - here[1]["mean"]
                if paper[0].mean == paper[1].mean:
                    verdict = "tie in the paper"
                elif difference == 0:
                    verdict = "tie here"
                else:
                    verdict = "agrees" if difference > 0 else "against"
                rows.append(
                    {"table": table, "kind": kind}
                    | {"metric": column[0], "of": column[1], "a": a, "b": b}
                    | {"paper_a": paper[0].mean, "paper_b": paper[1].mean}
                    | {"ours_a": here[0]["mean"], "ours_b": here[1]["mean"]}
                    | {"difference": difference, "verdict": verdict}
                    | {"clear": _apart(*[(row["lower"], row["upper"]) for row in here])}
                    | {"clear_paper": _apart(*[(row.lower, row.upper) for row in paper])}
                )
    return pd.DataFrame(rows)


def _apart(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] > second[1] or second[0] > first[1]


def counts(part: pd.DataFrame) -> dict:
    """How many pairs agree and how many do not."""
    number = part["verdict"].value_counts().reindex(VERDICTS, fill_value=0).to_dict()
    against = part["verdict"] == "against"
    return {
        **number,
        "compared": len(part) - number["tie in the paper"],
        "clear": int((against & part["clear"]).sum()),
        "clear_both": int((against & part["clear"] & part["clear_paper"]).sum()),
    }


COUNTED = {
    "pairs": "{compared}",
    "agree": "{agrees}",
    "against": "{against}",
    "of them clear": "{clear}",
    "clear in the paper too": "{clear_both}",
    "tie here": "{tie here}",
}


def in_sum(frame: pd.DataFrame) -> list[dict]:
    """A row for all pairs but those of RE beside and alone, for their parts, and for those."""
    kind = frame["kind"]
    against_alone = kind.str.endswith("against alone")
    parts = {
        "**all pairs of methods**": ~against_alone,
        "of them: separation of batches and cell types": kind.isin(SEPARATION),
        "of them: prediction from each alone": kind.str.endswith(", alone"),
        "of them: prediction with RE beside each": kind.str.endswith(", with RE"),
        "prediction with RE beside one, against any alone": against_alone,
    }
    return [{"what": name} | counts(frame[rows]) for name, rows in parts.items()]


def by_column(frame: pd.DataFrame) -> str:
    """A row for each column of the tables and kind of pairs."""
    rows = [
        {"what": what(*column), "kind": kind} | counts(part)
        for column, of_column in frame.groupby(["metric", "of"], sort=False)
        for kind, part in of_column.groupby("kind", sort=False)
    ]
    columns = {"table": "{kind}", "column": "{what}"} | COUNTED
    return markdown(rows, columns | {"tie in the paper, left out": "{tie in the paper}"})


def each(frame: pd.DataFrame) -> str:
    rows = [
        row
        | {"what": what(row["metric"], row["of"])}
        | {"said": row["verdict"] + ", clear" * (row["clear"] and "tie" not in row["verdict"])}
        | {"sign": "=" if row["verdict"] == "tie in the paper" else ">"}
        for row in frame.to_dict("records")
    ]
    columns = {"table": "{kind}", "column": "{what}", "in the paper": "{a} {sign} {b}"}
    columns |= {"paper": "{paper_a:.6g} / {paper_b:.6g}", "ours": "{ours_a:.3g} / {ours_b:.3g}"}
    return markdown(rows, columns | {"difference": "{difference:+.3g}", "verdict": "{said}"})


def what(metric: str, of: str) -> str:
    """A metric, and what of, in words."""
    return f"{metric}, {'cell type' if of == 'label' else of}".replace("_", " ")
