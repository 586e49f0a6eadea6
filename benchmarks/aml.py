"""FE and RE on the AML data: what they reconstruct, and what is predicted from their latents.

python benchmarks/aml.py run methods   # FE, FEC and RE: writes results/aml_methods.json
python benchmarks/aml.py run curve     # FE over adversary_weight: results/aml_curve.json
python benchmarks/aml.py               # prints the tables from them
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:
    from collections.abc import Iterator

AMBIGUOUS_DONORS = ["AML314", "AML371", "AML722B", "AML997"]  # scMEDAL, supplement 2.2
TARGETS = {"donor": "donor", "type": "cell_type"}
SEEDS = (0, 1, 2)
FE_WEIGHTS = (0, 20, 40, 50, 60, 80)

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
        "adversary_weight": "{weight}",
        "donor": "{donor:.2f}",
        "cell type": "{type:.2f}",
        "cell type, of PCA's": "{relative_type:.2f}",
        "variance explained, of PCA's": "{relative_variance:.2f}",
    },
}


def load_cells() -> ad.AnnData:
    adata = ad.read_h5ad(data_folder() / "aml_vangalen2019_d0.h5ad")
    adata = adata[~adata.obs["donor"].isin(AMBIGUOUS_DONORS)].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=2916)
    return adata


class Judge:
    """Measures a method on held-out cells; everything it fits sees training cells only.

    Choices are made on the validation cells, results are reported on the test cells.
    """

    def __init__(self, adata: ad.AnnData, part: Literal["validation", "test"]):
        self.adata = adata
        self.parts = smt.train.stratified_split(adata.obs, ["donor", "cell_type"], seed=0)
        self.train, validation, test = self.parts
        self.test = {"validation": validation, "test": test}[part]
        self.x_test = adata.X[self.test].toarray()
        self.gene_means = np.asarray(adata.X[self.train].mean(0)).ravel()
        self.total = np.square(self.x_test - self.gene_means).sum()
        self.labels = {k: adata.obs[c].astype(str).to_numpy() for k, c in TARGETS.items()}

    def variance_explained(self, reconstruction: np.ndarray) -> float:
        return float(1 - np.square(self.x_test - reconstruction).sum() / self.total)

    def accuracy(self, latent: np.ndarray) -> dict[str, float]:
        """Balanced accuracy of a fresh random forest on standardised latents."""
        return {
            name: self._accuracy(latent, RandomForestClassifier(100, n_jobs=2, random_state=0), y)
            for name, y in self.labels.items()
        }

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
    latent = np.concatenate(
        [fitted.transform(x[i : i + 2048].toarray()) for i in range(0, x.shape[0], 2048)]
    )
    reconstruction = fitted.inverse_transform(latent[judge.test])
    return {
        "name": "PCA, 50 components",
        "variance": judge.variance_explained(reconstruction),
        **judge.accuracy(latent),
    }


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


def run(what: str) -> None:
    """Train and save, after every model, one of the two parts of the results."""
    part = "validation" if what == "curve" else "test"
    judge = Judge(load_cells(), part)
    about = {
        "cells": [len(cells) for cells in judge.parts],
        "genes": judge.adata.n_vars,
        "judged_on": part,
        "chance": judge.chance(),
        "split_seed": 0,
    }
    rows = [pca(judge)]
    for row in curve(judge) if what == "curve" else methods(judge):
        rows.append(row)
        save(f"aml_{what}", rows, **about)
        print({k: v for k, v in row.items() if k != "settings"}, flush=True)


def methods(judge: Judge) -> Iterator[dict]:
    for seed in SEEDS:
        model, row = fit(judge, smt.model.SCMEDAL_RE, seed)
        yield {"name": f"RE, seed {seed}", **row, "swap_gap": swap_gap(judge, model)}
        content = judge.accuracy(model.get_latent_representation(kind="content"))
        yield {"name": f"RE's content, seed {seed}", "class": "content", **content}
        yield {"name": f"FE, seed {seed}", **fit(judge, smt.model.SCMEDAL_FE, seed)[1]}
    yield {"name": "FEC, seed 0", **fit(judge, smt.model.SCMEDAL_FEC, 0)[1]}


def curve(judge: Judge) -> Iterator[dict]:
    for weight in FE_WEIGHTS:
        row = fit(judge, smt.model.SCMEDAL_FE, 0, adversary_weight=weight)[1]
        yield {"name": f"FE, weight {weight:g}", "weight": weight, **row}


def tables() -> dict[str, str]:
    """Markdown tables of the saved results, which the docs show."""
    return {name: table(name) for name in TABLES}


def table(name: str) -> str:
    base, *rows = load(f"aml_{name}")["results"]
    empty = dict.fromkeys(("swap_gap", "epochs", "seconds"), "")
    shown = []
    for row in [base, *rows]:
        row = empty | {"weight": base["name"]} | row
        row["relative_type"] = row["type"] / base["type"]
        row["relative_variance"] = row.get("variance", np.nan) / base["variance"]
        row.setdefault("variance", np.nan)
        row["swap_gap"] = f"{row['swap_gap']:.2f}" if row["swap_gap"] else ""
        shown.append(row)
    return markdown(shown, TABLES[name]).replace("nan", "")


if __name__ == "__main__":
    smt.train.quiet()
    if sys.argv[1:2] == ["run"]:
        for what in sys.argv[2:] or TABLES:
            run(what)
    for text in tables().values():
        print(text, end="\n\n")
