"""Our results on AML beside those that the paper prints: Tables 1, S8, S11 and S12.

python benchmarks/paper.py    # prints the tables, from the results of evaluation.py

The paper's numbers are means over five folds of all 38,417 cells, with cell lines as a third
patient group; ours are of day 0, without cell lines.
"""

from __future__ import annotations

import pandas as pd
from _record import load, markdown

PRINTED = {
    "pca": "PCA",
    "ae": "AE",
    "aec": "AEC",
    "harmony": "Harmony",
    "scanorama": "Scanorama",
    "saucie": "SAUCIE",
    "scvi": "scVI",
    "scanvi": "scANVI",
    "FE": "FE",
    "FEC": "FEC",
    "RE": "RE",
}
# Balanced accuracy alone, and with RE: Table 1 and Table S12.
PATIENT_GROUP = {
    "harmony": (0.38, 1.00),
    "pca": (0.89, 1.00),
    "saucie": (0.86, 1.00),
    "scanorama": (0.67, 1.00),
    "scanvi": (0.78, 1.00),
    "FE": (0.83, 1.00),
    "FEC": (0.57, 1.00),
    "scvi": (0.76, 1.00),
}
CELL_TYPE = {
    "harmony": (0.49, 0.71),
    "pca": (0.70, 0.72),
    "saucie": (0.68, 0.73),
    "scanorama": (0.61, 0.71),
    "FE": (0.68, 0.71),
    "scvi": (0.67, 0.74),
}
# 1/DB of the batches and of the cell types: Tables S8 and S11.
RECIPROCAL_DB = {
    "pca": (0.20, 0.27),
    "ae": (0.19, 0.27),
    "aec": (0.13, 0.33),
    "harmony": (0.14, 0.21),
    "scanorama": (0.16, 0.25),
    "saucie": (0.16, 0.30),
    "scvi": (0.05, 0.29),
    "scanvi": (0.12, 0.61),
    "FE": (0.17, 0.25),
    "FEC": (0.11, 0.27),
    "RE": (1.50, 0.18),
}
# Silhouette widths that the text names; the others are bars of Fig. 4.
BATCH_ASW = {"RE": 0.69}
TYPE_ASW = {"ae": 0.06, "aec": 0.11, "FE": 0.05, "FEC": 0.08, "scvi": 0.03, "scanvi": 0.22}


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("evaluation_cells")["results"])
    means = results.set_index(["of", "metric", "embedding"])["mean"].sort_index()
    return {
        "patient_group": classified(means, "patient_group", PATIENT_GROUP),
        "cell_type": classified(means, "cell_type", CELL_TYPE),
        "separation": separation(means),
    }


def classified(means: pd.Series, target: str, printed: dict[str, tuple]) -> str:
    ours = means[target, "balanced_accuracy"]
    rows = [
        {
            "embedding": PRINTED[name],
            "alone": ours[name],
            "with_re": ours[f"{name} + RE"],
            "with_label": ours[f"{name} + batch label"],
            "paper": [f"{x:.2f}" for x in printed.get(name, ())] or ["", ""],
        }
        for name in PRINTED
        if name in ours and name != "RE"
    ]
    columns = {
        "embedding": "{embedding}",
        "ours: alone": "{alone:.2f}",
        "with RE": "{with_re:.2f}",
        "with the batch label": "{with_label:.2f}",
        "paper: alone": "{paper[0]}",
        "with RE ": "{paper[1]}",
    }
    return markdown(rows, columns)


def separation(means: pd.Series) -> str:
    rows = [
        {
            "embedding": PRINTED[name],
            "batch_asw": means["batch", "ASW", name],
            "type_asw": means["label", "ASW", name],
            "batch_db": means["batch", "1/DB", name],
            "type_db": means["label", "1/DB", name],
            "paper_batch_asw": BATCH_ASW.get(name, ""),
            "paper_type_asw": TYPE_ASW.get(name, ""),
            "paper_db": RECIPROCAL_DB[name],
        }
        for name in PRINTED
        if ("batch", "ASW", name) in means
    ]
    columns = {
        "embedding": "{embedding}",
        "ASW of batches": "{batch_asw:.2f}",
        "paper": "{paper_batch_asw}",
        "ASW of types": "{type_asw:.2f}",
        "paper ": "{paper_type_asw}",
        "1/DB of batches": "{batch_db:.2f}",
        "paper  ": "{paper_db[0]:.2f}",
        "1/DB of types": "{type_db:.2f}",
        "paper   ": "{paper_db[1]:.2f}",
    }
    return markdown(rows, columns)


if __name__ == "__main__":
    for text in tables().values():
        print(text, end="\n\n")
