"""Properties of donors predicted from their cells, one left out at a time.

python benchmarks/donor_prediction.py run       # writes results/donor_prediction.json
python benchmarks/donor_prediction.py run age   # what has the word in its name; the rest is kept
python benchmarks/donor_prediction.py           # prints the tables

Patient group in AML, in all cells and in those that the authors call normal; genotype in pig
airways; sex and age in OneK1K. All that learns sees the other donors only, see
``bm.donor_prediction``: RE too is trained anew without each donor, who is then mapped. What it
says of the donors is kept in ``cache``, by commit, so that a run can be interrupted, and questions
about the same cells share it.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import ROOT, SOURCE, data_folder, load, markdown, save, saved

import scmedal_tools as smt

CACHE = ROOT / "benchmarks" / "cache" / "donor_prediction" / SOURCE["commit"]
SEED = 0
N_PERMUTATIONS = 500  # exact where there are fewer ways to give the labels to the donors
# The record has former names of the features.
NAMES_IN_RECORD = {
    r"given types \(no network\)": "adjusted for cell type",
    "own scale": "not standardised",
}
AML = ("aml_vangalen2019_d0.h5ad", ("AML314", "AML371", "AML722B", "AML997"))  # scMEDAL, 2.2
# On the X and Y chromosome, of which sex could be read. The file of OneK1K has none of them.
SEX_LINKED = {
    "XIST": "ENSG00000229807", "TSIX": "ENSG00000270641", "JPX": "ENSG00000225470",
    "RPS4Y1": "ENSG00000129824", "DDX3Y": "ENSG00000067048", "KDM5D": "ENSG00000012817",
    "UTY": "ENSG00000183878", "USP9Y": "ENSG00000114374", "EIF1AY": "ENSG00000198692",
    "ZFY": "ENSG00000067646", "TXLNGY": "ENSG00000131002", "PRKY": "ENSG00000099725",
    "KDM5C": "ENSG00000126012", "KDM6A": "ENSG00000147050", "DDX3X": "ENSG00000215301",
    "EIF1AX": "ENSG00000173674", "ZFX": "ENSG00000005889", "RPS4X": "ENSG00000198034",
    "PRKX": "ENSG00000183943", "ZRSR2": "ENSG00000169249", "TXLNG": "ENSG00000086712",
    "SMC1A": "ENSG00000072501", "UBA1": "ENSG00000130985", "CD99": "ENSG00000002586",
}  # fmt: skip


class Question(NamedTuple):
    name: str
    file: str
    target: str
    drop: tuple[str, ...] = ()
    normal_cells_only: bool = False
    n_genes: int | None = None

    @property
    def cells(self) -> str:
        """Name of the cells and genes, which several questions may share."""
        return f"{self.file}, {'normal' if self.normal_cells_only else 'all'}, {self.n_genes}"


class MappedDonors:
    """Effects of donors in RE, trained without the one that is left out, who is mapped."""

    def __init__(self, question: Question):
        self.folder, self.n_genes = CACHE / question.cells, question.n_genes

    def __call__(self, adata: ad.AnnData, train: list[str]) -> pd.DataFrame:
        """Table of donors x genes."""
        known = adata.obs["donor"].isin(train).to_numpy()
        (left_out,) = adata.obs["donor"][~known].astype(str).unique()
        file = self.folder / f"{left_out}.csv"
        if not file.exists():
            start = time.process_time()
            self.folder.mkdir(parents=True, exist_ok=True)
            table = self.embedded(adata[known].copy(), adata[~known].copy())
            table.to_csv(file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)  # whole, or not there
            print(left_out, f"{time.process_time() - start:.0f} s", flush=True)
        return pd.read_csv(file, index_col=0, dtype={0: str})

    def embedded(self, known: ad.AnnData, new: ad.AnnData) -> pd.DataFrame:
        """Genes, network and effects of the known cells; of the new ones effects alone."""
        known.obs["donor"] = known.obs["donor"].cat.remove_unused_categories()
        if self.n_genes is not None:
            genes = smt.pp.variable_genes(known, self.n_genes, batch_key="donor")
            known, new = known[:, genes].copy(), new[:, genes].copy()
        scvi.settings.seed = SEED
        smt.model.SCMEDAL_RE.setup_anndata(known, batch_key="donor")
        model = smt.model.SCMEDAL_RE(known)
        model.train(enable_progress_bar=False)
        query = smt.model.SCMEDAL_RE.load_query_data(new, model)
        query.train(enable_progress_bar=False)
        # Averaged over the reference's cells, the known donors are as they were.
        return smt.tl.donor_embedding(query, known).to_df()


QUESTIONS = (
    Question("AML: patient group", AML[0], "patient_group", AML[1], n_genes=2000),
    Question("AML: patient group, normal cells only", AML[0], "patient_group", AML[1], True, 2000),
    Question("pig airway: genotype", "cf_pig_airway_aggregatebiovar.h5ad", "genotype"),
    Question("OneK1K: sex", "onek1k_pbmc_40donors_1000genes.h5ad", "sex"),
    Question("OneK1K: age", "onek1k_pbmc_40donors_1000genes.h5ad", "age"),
)


def cells_of(question: Question) -> ad.AnnData:
    adata = ad.read_h5ad(data_folder() / question.file)
    keep = ~adata.obs["donor"].isin(question.drop).to_numpy()
    if question.normal_cells_only:
        keep &= (adata.obs["malignancy"] == "normal").to_numpy()
    adata = adata[keep, ~adata.var_names.isin(SEX_LINKED.values())].copy()
    adata.obs["total"] = np.asarray(adata.X.sum(1)).ravel()
    smt.pp.preprocess(adata, n_top_genes=None)
    return adata


def run(word: str = "") -> None:
    asked = [question for question in QUESTIONS if word in question.name]
    names = {question.name for question in asked}
    results = [row for row in saved("donor_prediction") if row["question"] not in names]
    for question in asked:
        adata = cells_of(question)
        start = time.process_time()
        found = smt.bm.donor_prediction(
            adata,
            "donor",
            question.target,
            "cell_type",
            n_top_genes=question.n_genes,
            total_counts_key="total",
            embeddings={"effects in RE": MappedDonors(question)},
            n_permutations=N_PERMUTATIONS,
            progress=False,
        )
        seconds = round(time.process_time() - start)
        made_with = {"question": question.name, "commit": SOURCE["commit"], "seconds": seconds}
        made_with |= {"cells": adata.n_obs, "genes": adata.n_vars}
        results += [made_with | row for row in found.table.to_dict("records")]
        save("donor_prediction", results, questions=[q._asdict() for q in QUESTIONS])
        print(question.name, seconds, found.table.round(3).to_string(), sep="\n", flush=True)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("donor_prediction")["results"])
    results["features"] = results["features"].replace(NAMES_IN_RECORD, regex=True)
    results["shown"] = [
        f"{row.value:.2f} ({row.p_value:.3f})" for row in results.itertuples(index=False)
    ]
    results.loc[results["method"] == "ridge", "shown"] += [
        f", by chance {row.chance:.2f}"
        for row in results[results["method"] == "ridge"].itertuples(index=False)
    ]
    keys = ["question", "features"]
    wide = results.pivot_table(
        index=keys, columns=["method", "metric"], values="shown", aggfunc="first", sort=False
    )
    wide.columns = [f"{method} {metric}" for method, metric in wide.columns]
    facts = results.groupby(keys, sort=False)[["n_donors", "n_features"]].first()
    rows = wide.join(facts).reset_index()
    of_numbers = rows["question"].str.endswith("age")
    of_all = {"features": "{features}", "number of features": "{n_features}"}
    of_labels = {
        "": "{question}",
        "donors": "{n_donors}",
        **of_all,
        "nearest centroid: balanced accuracy": "{nearest centroid balanced_accuracy}",
        "AUC": "{nearest centroid auc}",
        "shrunken LDA: balanced accuracy": "{shrunken LDA balanced_accuracy}",
        "AUC ": "{shrunken LDA auc}",
    }
    of_age = of_all | {"share of variance": "{ridge r2}", "rank correlation": "{ridge spearman}"}
    return {
        "labels": markdown(rows[~of_numbers].to_dict("records"), of_labels),
        "age": markdown(rows[of_numbers].to_dict("records"), of_age),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run(*sys.argv[2:3])
    for name, table in tables().items():
        print(f"{name}\n{table}\n")
