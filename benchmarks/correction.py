"""How well FE and FEC correct batches, beside PCA, Harmony, Scanorama, scVI and scANVI.

python benchmarks/correction.py run pig kang mixology simulated onek1k aml glioblastoma
python benchmarks/correction.py run aml:FE:FEC    # some methods only
python benchmarks/correction.py figure            # draws mixology for the guide
python benchmarks/correction.py                   # prints the tables

All cells are embedded and scored by scib-metrics: total = .4 batch correction + .6 biology. Every
method has its usual settings on every data set. Labels of the glioblastoma set are its treatment.
``run`` writes ``results/correction_<name>.json`` after every fit, and leaves out what this commit
has saved there. Draws for the design have other seeds.
"""

from __future__ import annotations

import sys
import time
import warnings
from itertools import product
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import ROOT, SOURCE, data_folder, markdown, save, saved
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import scmedal_tools as smt

SEEDS = (0, 1, 2)
FIGURE = ROOT / "docs" / "_static" / "batch_correction.png"
SIMULATED = "simulated"


class DataSet(NamedTuple):
    file: str | None
    batch_key: str
    labels_key: str = "cell_type"
    n_genes: int | None = None
    drop: tuple[str, ...] = ()


PAPER_DROPS = ("AML314", "AML371", "AML722B", "AML997")  # scMEDAL, supplement 2.2
DATA_SETS = {
    "aml": DataSet("aml_vangalen2019_d0.h5ad", "donor", n_genes=2916, drop=PAPER_DROPS),
    "pig": DataSet("cf_pig_airway_aggregatebiovar.h5ad", "donor"),
    "kang": DataSet("kang2018_pbmc_ctrl_stim_2000cells.h5ad", "condition", n_genes=2000),
    "mixology": DataSet("mixology_tian2019_celllines.h5ad", "batch", n_genes=2000),
    "onek1k": DataSet("onek1k_pbmc_40donors_1000genes.h5ad", "donor"),
    "glioblastoma": DataSet("glioblastoma_zhao2021.h5ad", "patient", labels_key="condition"),
    SIMULATED: DataSet(None, "donor", n_genes=1000),
}


def load_cells(data_set: DataSet) -> ad.AnnData:
    if data_set.file is None:
        adata = smt.datasets.simulated(seed=0)
    else:
        adata = ad.read_h5ad(data_folder() / data_set.file)
    adata = adata[~adata.obs[data_set.batch_key].isin(data_set.drop)].copy()
    smt.pp.preprocess(adata, batch_key=data_set.batch_key, n_top_genes=data_set.n_genes)
    return adata


def of_model(name: str, **settings):
    """Latent of one of our models."""
    labelled = name == "SCMEDAL_FEC"

    def embed(adata: ad.AnnData, data_set: DataSet, seed: int) -> np.ndarray:
        scvi.settings.seed = seed
        cls = getattr(smt.model, name)
        labels = {"labels_key": data_set.labels_key} if labelled else {}
        cls.setup_anndata(adata, batch_key=data_set.batch_key, **labels)
        model = cls(adata, **settings)
        model.train(enable_progress_bar=False)
        kind = {"kind": "content"} if name == "SCMEDAL_RE" else {}
        return model.get_latent_representation(**kind)

    return embed


def of_comparator(name: str, **settings):
    """Embedding of a comparator, which is trained on nine tenths of the cells as ours are."""

    def embed(adata: ad.AnnData, data_set: DataSet, seed: int) -> np.ndarray:
        keys = {"batch_key": data_set.batch_key, "labels_key": data_set.labels_key}
        key = getattr(smt.ext, name)(adata, **keys, seed=seed, **settings)
        return adata.obsm.pop(key)

    return embed


def sysvi(adata: ad.AnnData, data_set: DataSet, seed: int) -> np.ndarray:
    """SysVI, which takes log-normalised expression."""
    from scvi.external import SysVI

    scvi.settings.seed = seed
    SysVI.setup_anndata(adata, batch_key=data_set.batch_key)
    model = SysVI(adata)
    model.train(max_epochs=200, early_stopping=True, enable_progress_bar=False)
    return model.get_latent_representation()


OF_SCVI = {"n_hidden": 128, "n_layers": 1, "batch_size": 128, "max_epochs": 400, "progress": False}
METHODS = {
    "PCA": of_comparator("pca"),
    "Harmony": of_comparator("harmony"),
    "Scanorama": of_comparator("scanorama"),
    "scVI (30)": of_comparator("scvi", n_latent=30, **OF_SCVI),
    "scVI (50)": of_comparator("scvi", n_latent=50, **OF_SCVI),
    "sysVI": sysvi,
    "FE": of_model("SCMEDAL_FE"),
    "RE's content": of_model("SCMEDAL_RE"),
    "scANVI (30)": of_comparator("scanvi", n_latent=30, **OF_SCVI),
    "FEC": of_model("SCMEDAL_FEC"),
}
SUPERVISED = ("scANVI (30)", "FEC")
OF_ALL_SEEDS = ("FE", "FEC", "RE's content")


def score(adata: ad.AnnData, data_set: DataSet, embedding: np.ndarray) -> dict:
    """Metrics of scib-metrics, and what a forest reads of the batch and of rare types."""
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    batch_key, labels_key = data_set.batch_key, data_set.labels_key
    obs = adata.obs[[batch_key, labels_key]].astype(str).astype("category")
    cells = ad.AnnData(np.zeros((adata.n_obs, 1), dtype=np.float32), obs=obs)
    cells.obsm["embedding"] = np.ascontiguousarray(embedding, dtype=np.float32)
    benchmarker = Benchmarker(
        cells,
        batch_key,
        labels_key,
        ["embedding"],
        BioConservation(),
        BatchCorrection(pcr_comparison=False),
        pre_integrated_embedding_obsm_key="embedding",
        n_jobs=1,
        progress_bar=False,
    )
    benchmarker.benchmark()
    values = benchmarker.get_results(min_max_scale=False).loc["embedding"].astype(float).to_dict()
    return values | readable(embedding, obs[batch_key], obs[labels_key])


def readable(embedding: np.ndarray, batch: pd.Series, label: pd.Series) -> dict:
    """Balanced accuracies of a forest, three folds: type, rarest types, batch within type.

    Also the share of each type among the cells, and its recall.
    """
    share = label.value_counts(normalize=True)
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.permutation(len(embedding))[:4_000])
    x, batch, label = embedding[drawn], batch.to_numpy()[drawn], label.to_numpy()[drawn]
    recalls = recalls_of(x, label)
    excess = []
    for name in np.unique(label):
        of_label = label == name
        names, sizes = np.unique(batch[of_label], return_counts=True)
        of_label &= np.isin(batch, names[sizes >= 10])
        n_batches = len(np.unique(batch[of_label]))
        if n_batches > 1:
            accuracy = recalls_of(x[of_label], batch[of_label]).mean()
            excess.append(accuracy - 1 / n_batches)
    frequent = pd.Series(label).value_counts(normalize=True)
    rare = recalls[recalls.index.isin(frequent.index[frequent < 0.01])]
    return {
        "forest: type": float(recalls.mean()),
        "forest: rare types": float(rare.mean()) if len(rare) else None,
        "forest: batch within type, excess": float(np.mean(excess)),
        "types": {name: [float(share[name]), float(x)] for name, x in recalls.items()},
    }


def recalls_of(x: np.ndarray, truth: np.ndarray) -> pd.Series:
    """Recall of each class with three cells or more."""
    names, sizes = np.unique(truth, return_counts=True)
    kept = np.isin(truth, names[sizes >= 3])
    forest = RandomForestClassifier(100, random_state=0, class_weight="balanced")
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    guess = cross_val_predict(forest, x[kept], truth[kept], cv=folds)
    return pd.Series(guess == truth[kept]).groupby(truth[kept]).mean()


def run(name: str, methods: list[str], seed: int) -> None:
    """Embed and score by some methods what this commit has not saved."""
    data_set, file = DATA_SETS[name], f"correction_{name}"
    results = {(row["method"], row["seed"]): row for row in saved(file)}
    methods = [method for method in methods if seed == SEEDS[0] or method in OF_ALL_SEEDS]
    done = {key for key, row in results.items() if row["commit"] == SOURCE["commit"]}
    methods = [method for method in methods if (method, seed) not in done]
    adata = load_cells(data_set) if methods else None
    for method in methods:
        start = time.perf_counter()
        embedding = METHODS[method](adata, data_set, seed)
        seconds = round(time.perf_counter() - start)
        row = {"method": method, "seed": seed, "seconds": seconds, "commit": SOURCE["commit"]}
        results[method, seed] = row | score(adata, data_set, embedding)
        save(file, list(results.values()), data=data_set.file)
        print(name, results[method, seed], flush=True)


def figure() -> None:
    """UMAPs of cell lines before and after the correction."""
    data_set = DATA_SETS["mixology"]
    adata = load_cells(data_set)
    adata.obsm["X_pca"] = METHODS["PCA"](adata, data_set, SEEDS[0])
    adata.obsm["X_scmedal_fe"] = METHODS["FE"](adata, data_set, SEEDS[0])
    shown, colours = ["X_pca", "X_scmedal_fe"], [data_set.batch_key, data_set.labels_key]
    smt.pl.embeddings(adata, shown, colours, save=FIGURE)


TITLES = {
    "iLISI": "iLISI",
    "KBET": "kBET",
    "Batch correction": "batch",
    "Bio conservation": "biology",
    "Total": "total",
    "forest: batch within type, excess": "batch within type, predicted",
    "forest: type": "type, predicted",
    "forest: rare types": "rare types, predicted",
}


def tables() -> dict[str, str]:
    """Tables of the documentation: totals of all data sets, and the details of each."""
    found = {name: pd.DataFrame(saved(f"correction_{name}")) for name in DATA_SETS}
    found = {name: rows for name, rows in found.items() if len(rows)}
    rows = pd.concat(rows.assign(data=name) for name, rows in found.items())
    of_seeds = rows.rename(columns=TITLES).groupby(["data", "method"])
    mean = of_seeds[list(TITLES.values())].mean()
    totals = mean["total"].unstack("data").reindex(index=list(METHODS), columns=list(found))
    made = {"seeds": _over_seeds(of_seeds["total"])}
    for title, supervised in (("unsupervised", False), ("supervised", True)):
        of_group = totals[totals.index.isin(SUPERVISED) == supervised].dropna(how="all")
        ranks = of_group.dropna(axis=1).rank(ascending=False)  # where all were run
        table = of_group.assign(**{"mean rank": ranks.mean(axis=1)})
        lines = [{"method": name} | _rounded(row) for name, row in table.iterrows()]
        columns = {column: f"{{{column}}}" for column in table}
        made[title] = markdown(lines, {"method": "{method}"} | columns)
    lines = [
        {"data": name, "method": method} | _rounded(mean.loc[(name, method)])
        for name, method in product(found, METHODS)
        if (name, method) in mean.index
    ]
    columns = {title: f"{{{title}}}" for title in TITLES.values()}
    made["details"] = markdown(lines, {"data": "{data}", "method": "{method}"} | columns)
    made["types"] = _of_types(found["aml"])
    return made


def _of_types(rows: pd.DataFrame) -> str:
    """Recall of each type, beside its share of the cells; means over training seeds."""
    found = pd.DataFrame(
        {"method": method, "type": name, "share": share, "recall": recall}
        for method, types in zip(rows["method"], rows["types"], strict=True)
        if isinstance(types, dict)
        for name, (share, recall) in types.items()
    )
    table = found.pivot_table("recall", "type", "method")
    table = table.reindex(columns=[name for name in METHODS if name in table])
    shares = found.groupby("type")["share"].first().sort_values(ascending=False)
    lines = [
        {"type": name, "share": f"{share:.1%}"} | _rounded(table.loc[name])
        for name, share in shares.items()
    ]
    columns = {"cell type": "{type}", "share of the cells": "{share}"}
    return markdown(lines, columns | {name: f"{{{name}}}" for name in table})


def _over_seeds(total: pd.api.typing.SeriesGroupBy) -> str:
    """Totals of our models over training seeds; the other methods have one."""
    lines = [
        {
            "data": data,
            "method": method,
            "n": len(values),
            **values.agg(["mean", "std", "min", "max"]),
        }
        for (data, method), values in total
        if len(values) > 1
    ]
    columns = {
        "data": "{data}",
        "method": "{method}",
        "seeds": "{n}",
        "mean total": "{mean:.3f}",
        "s.d.": "{std:.3f}",
        "least": "{min:.3f}",
        "largest": "{max:.3f}",
    }
    return markdown(lines, columns)


def _rounded(row: pd.Series) -> dict[str, str]:
    return {key: "" if pd.isna(value) else f"{value:.2f}" for key, value in row.items()}


if __name__ == "__main__":
    smt.train.quiet()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        for seed, argument in product(SEEDS, sys.argv[2:]):
            name, *methods = argument.split(":")
            run(name, methods or list(METHODS), seed)
    elif sys.argv[1:2] == ["figure"]:
        figure()
    else:
        for text in tables().values():
            print(text, end="\n\n")
