"""FE and RE on the AML data: what they reconstruct, and what their latents tell.

    python benchmarks/aml.py run      # trains everything, writes results/aml.json
    python benchmarks/aml.py          # prints the tables from it
"""

from __future__ import annotations

import logging
import sys
import time

import anndata as ad
import numpy as np
import scvi
from _record import data_folder, load, markdown, save
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scmedal_tools as smt

AMBIGUOUS_DONORS = ["AML314", "AML371", "AML722B", "AML997"]  # scMEDAL, supplement 2.2
TARGETS = {"donor": "donor", "type": "cell_type"}
SEEDS = (0, 1, 2)
FE_WEIGHTS = (0, 25, 50, 75, 100, 200)

TABLES = {
    "methods": {
        "method": "{name}",
        "variance explained": "{variance:.3f}",
        "of PCA's": "{relative_variance:.2f}",
        "donor": "{donor:.2f}",
        "cell type": "{type:.2f}",
        "of PCA's ": "{relative_type:.2f}",
        "swap gap": "{swap_gap}",
        "epochs": "{epochs}",
        "seconds": "{seconds}",
    },
    "curve": {
        "adversary_weight": "{weight:g}",
        "variance explained, of PCA's": "{relative_variance:.2f}",
        "donor": "{donor:.2f}",
        "cell type": "{type:.2f}",
        "cell type, of PCA's": "{relative_type:.2f}",
    },
}


def load_cells() -> ad.AnnData:
    adata = ad.read_h5ad(data_folder() / "aml_vangalen2019_d0.h5ad")
    adata = adata[~adata.obs["donor"].isin(AMBIGUOUS_DONORS)].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=2916)
    return adata


class Judge:
    """Measures a method on the test cells; everything it fits sees training cells only."""

    def __init__(self, adata: ad.AnnData):
        self.adata = adata
        self.parts = smt.train.stratified_split(adata.obs, ["donor", "cell_type"], seed=0)
        self.train, _, self.test = self.parts
        self.x_test = adata.X[self.test].toarray()
        self.gene_means = np.asarray(adata.X[self.train].mean(0)).ravel()
        self.total = np.square(self.x_test - self.gene_means).sum()
        self.labels = {k: adata.obs[c].astype(str).to_numpy() for k, c in TARGETS.items()}

    def variance_explained(self, reconstruction: np.ndarray) -> float:
        return float(1 - np.square(self.x_test - reconstruction).sum() / self.total)

    def accuracy(self, latent: np.ndarray) -> dict[str, float]:
        """Balanced accuracy of a fresh random forest on standardised latents."""
        return {name: self._accuracy(latent, RandomForestClassifier(100, n_jobs=2, random_state=0), y)
                for name, y in self.labels.items()}

    def chance(self) -> dict[str, float]:
        latent = np.zeros((self.adata.n_obs, 1))
        dummy = DummyClassifier(strategy="stratified", random_state=0)
        return {name: self._accuracy(latent, dummy, y) for name, y in self.labels.items()}

    def _accuracy(self, latent, classifier, y) -> float:
        fitted = make_pipeline(StandardScaler(), classifier).fit(latent[self.train], y[self.train])
        return float(balanced_accuracy_score(y[self.test], fitted.predict(latent[self.test])))


def pca(judge: Judge) -> dict:
    x = judge.adata.X
    fitted = PCA(50, random_state=0).fit(
        x[judge.train].toarray() if sparse.issparse(x) else x[judge.train]
    )
    latent = np.concatenate([fitted.transform(x[i : i + 2048].toarray())
                             for i in range(0, x.shape[0], 2048)])
    reconstruction = fitted.inverse_transform(latent[judge.test])
    return {"name": "PCA, 50 components", "variance": judge.variance_explained(reconstruction),
            **judge.accuracy(latent)}


def fit(judge: Judge, cls, seed: int, **settings):
    scvi.settings.seed = seed
    cls.setup_anndata(judge.adata, batch_key="donor", labels_key="cell_type")
    model = cls(judge.adata, **settings)
    start = time.perf_counter()
    model.train(datasplitter_kwargs={"external_indexing": judge.parts}, enable_progress_bar=False)
    seconds = time.perf_counter() - start
    row = {
        "class": cls.__name__,
        "seed": seed,
        "settings": settings,
        "seconds": round(seconds),
        "epochs": len(model.history["train_loss"]),
        "best_epoch": model.best_epoch_,
        "variance": judge.variance_explained(
            model.get_reconstruction(indices=judge.test, return_numpy=True)
        ),
        **judge.accuracy(model.get_latent_representation()),
    }
    return model, row


def swap_gap(judge: Judge, model) -> float:
    """Squared error of test cells under a wrong donor, over that under their own."""
    names = np.array(model.batch_names)
    own = judge.labels["donor"][judge.test]
    rng = np.random.default_rng(0)
    wrong = np.array([rng.choice(names[names != donor]) for donor in own])
    swapped = np.empty_like(judge.x_test)
    for donor in names:
        cells = wrong == donor
        swapped[cells] = model.get_counterfactual_expression(
            indices=judge.test[cells], transform_batch=donor, return_numpy=True
        )
    right = model.get_reconstruction(indices=judge.test, return_numpy=True)
    errors = [np.square(judge.x_test - x).sum() for x in (swapped, right)]
    return float(errors[0] / errors[1])


def run() -> None:
    judge = Judge(load_cells())
    about = {"cells": [len(part) for part in judge.parts], "genes": judge.adata.n_vars,
             "chance": judge.chance(), "split_seed": 0, "training_seeds": SEEDS}
    rows = [pca(judge)]

    def record(row: dict) -> None:
        rows.append(row)
        save("aml", rows, **about)
        print({k: v for k, v in row.items() if k != "settings"}, flush=True)

    for seed in SEEDS:
        model, row = fit(judge, smt.model.SCMEDAL_RE, seed)
        content = judge.accuracy(model.get_latent_representation(kind="content"))
        record({"name": f"RE, seed {seed}", **row, "swap_gap": swap_gap(judge, model)})
        record({"name": f"RE's content, seed {seed}", "class": "content", **content})
        record({"name": f"FE, seed {seed}", **fit(judge, smt.model.SCMEDAL_FE, seed)[1]})
    record({"name": "FEC, seed 0", **fit(judge, smt.model.SCMEDAL_FEC, 0)[1]})
    for weight in FE_WEIGHTS:
        row = fit(judge, smt.model.SCMEDAL_FE, 0, adversary_weight=weight)[1]
        record({"name": f"FE, weight {weight:g}", "weight": weight, **row})


def tables() -> dict[str, str]:
    """Markdown tables of the saved results, which the docs show."""
    rows = load("aml")["results"]
    base = rows[0]
    nothing = {"swap_gap": "", "epochs": "", "seconds": "", "variance": float("nan")}
    for i, row in enumerate(rows):
        rows[i] = row = nothing | row
        row["relative_variance"] = row["variance"] / base["variance"]
        row["relative_type"] = row["type"] / base["type"]
        if row["swap_gap"]:
            row["swap_gap"] = f"{row['swap_gap']:.2f}"
    curve = [row for row in rows if "weight" in row]
    methods = [row for row in rows if "weight" not in row]
    return {
        "methods": markdown(methods, TABLES["methods"]).replace("nan", ""),
        "curve": markdown(curve, TABLES["curve"]),
    }


if __name__ == "__main__":
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    if sys.argv[1:] == ["run"]:
        run()
    for table in tables().values():
        print(table, end="\n\n")
