"""Figures of the user guide: AML, and the scores that a benchmark saved.

python benchmarks/figures.py FOLDER

Trained models and cells are kept in FOLDER, and not trained again where they are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import pandas as pd
import scanpy as sc
import scvi
from _record import ROOT, data_folder, load
from counterfactuals import DATA_SETS
from PIL import Image

import scmedal_tools as smt

FIGURES = ROOT / "docs" / "_static"
AML = DATA_SETS["aml"]
MODELS = {"FE": smt.model.SCMEDAL_FE, "RE": smt.model.SCMEDAL_RE}
SIZES = (0.7, 0.1, 0.2)


def trained(folder: Path) -> tuple[ad.AnnData, dict]:
    """Cells with their embeddings, and the models, all of them in the folder afterwards."""
    file = folder / "aml.h5ad"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fit(folder).write_h5ad(file)
    adata = ad.read_h5ad(file)
    return adata, {n: cls.load(folder / f"aml_{n}", adata) for n, cls in MODELS.items()}


def fit(folder: Path) -> ad.AnnData:
    adata = ad.read_h5ad(data_folder() / AML.file)
    adata = adata[~adata.obs[AML.batch_key].isin(AML.drop)].copy()
    smt.pp.preprocess(adata, batch_key=AML.batch_key, n_top_genes=AML.n_genes)
    sc.pp.pca(adata, mask_var=None)
    parts = smt.train.stratified_split(adata.obs, [AML.batch_key, "cell_type"], SIZES, seed=0)
    for name, cls in MODELS.items():
        scvi.settings.seed = 0
        cls.setup_anndata(adata, batch_key=AML.batch_key)
        model = cls(adata)
        model.train(datasplitter_kwargs={"external_indexing": parts})
        smt.tl.embed(adata, model)
        model.save(folder / f"aml_{name}", overwrite=True)
    return adata


def draw(folder: Path) -> None:
    scores = pd.DataFrame(load("evaluation_cells")["results"])
    smt.pl.scores(scores, "balanced_accuracy", save=FIGURES / "scores.png")
    adata, models = trained(folder)
    found = smt.bm.confounding(adata, AML.batch_key, ["cell_type"])
    smt.pl.confounding(found, save=FIGURES / "confounding.png")
    smt.pl.training(models["RE"], save=FIGURES / "training.png")
    keys = ["X_pca", "X_scmedal_fe", "X_scmedal_re"]
    colors = [AML.batch_key, "cell_type"]
    smt.pl.embeddings(adata, keys, colors, save=FIGURES / "embeddings.png")
    shrink(FIGURES / "embeddings.png")
    few = {"n_samples": 25, "n_cells": 200}
    smt.pl.batch_effects(models["RE"], save=FIGURES / "batch_effects.png", **few)
    genomaps(adata, models, FIGURES / "genomap_panel.png")


def genomaps(adata: ad.AnnData, models: dict, file: Path) -> None:
    """Monocytes as measured, without effects, and as of healthy and ill donors."""
    types = {"labels_key": "cell_type", "cell_type": ["Mono", "Mono-like"]}
    stack = smt.tl.projection_stack(adata, *models.values(), **types)
    smt.tl.genomap_layout(stack)
    batches = ["BM3", "AML328", "AML556", "AML707B"]
    own = stack.obs.query("projection == 'original'").drop_duplicates("batch").set_index("batch")
    shown = own.loc[batches, "cell"].tolist()
    smt.pl.genomap_panel(stack, shown, batches, similar=0.95, save=file)
    shrink(file)


def shrink(file: Path) -> None:
    """Keep 256 colours of a picture, a third of its size."""
    few = (
        Image.open(file)
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    few.save(file, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
