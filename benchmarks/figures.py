"""Every figure of ``pl``, of AML and of Kang's interferon; some of AML are in the user guide.

python benchmarks/figures.py FOLDER

Trained models and cells are kept in FOLDER, and not trained again where they are there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

import anndata as ad
import pandas as pd
import scanpy as sc
import scvi
from _data_sets import DATA_SETS
from _record import ROOT, data_folder, load

import scmedal_tools as smt

GUIDE = ROOT / "docs" / "_static"
IN_GUIDE = (
    *("confounding", "training", "batch_effects"),
    *("variance_components", "genomap_panel"),
)
MODELS = {"FE": smt.model.SCMEDAL_FE, "RE": smt.model.SCMEDAL_RE}
KEYS = ["X_pca", "X_scmedal_fe", "X_scmedal_re"]
SIZES = (0.7, 0.1, 0.2)
FEW = {"n_samples": 25, "n_cells": 200}


@dataclass(frozen=True)
class Shown:
    """What is drawn of a data set."""

    shift: tuple[str, str, str]
    """Cell type, and batches from which and to which."""
    projected: tuple[str, ...]
    """Cell types of the genomaps."""
    batches: tuple[str, ...]
    """Batches of the genomaps."""


SHOWN = {
    "aml": Shown(
        ("Mono-like", "AML556", "AML419A"),
        ("Mono", "Mono-like"),
        ("BM3", "AML328", "AML556", "AML707B"),
    ),
    "kang": Shown(("CD14+ Monocytes", "ctrl", "stim"), ("CD14+ Monocytes",), ("ctrl", "stim")),
}


def trained(name: str, folder: Path) -> tuple[ad.AnnData, dict]:
    """Cells with their embeddings, and the models, all of them in the folder afterwards."""
    file = folder / f"{name}.h5ad"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fit(name, folder).write_h5ad(file)
    adata = ad.read_h5ad(file)
    return adata, {m: cls.load(folder / f"{name}_{m}", adata) for m, cls in MODELS.items()}


def fit(name: str, folder: Path) -> ad.AnnData:
    data_set = DATA_SETS[name]
    batch_key = data_set.batch_key
    adata = ad.read_h5ad(data_folder() / data_set.file)
    adata = adata[~adata.obs[batch_key].isin(data_set.drop)].copy()
    smt.pp.preprocess(adata, batch_key=batch_key, n_top_genes=data_set.n_genes)
    sc.pp.pca(adata, mask_var=None)
    parts = smt.train.stratified_split(adata.obs, [batch_key, "cell_type"], SIZES, seed=0)
    for kind, cls in MODELS.items():
        scvi.settings.seed = 0
        cls.setup_anndata(adata, batch_key=batch_key)
        model = cls(adata)
        model.train(datasplitter_kwargs={"external_indexing": parts})
        smt.tl.embed(adata, model)
        model.save(folder / f"{name}_{kind}", overwrite=True)
    return adata


def draw(name: str, folder: Path) -> None:
    """Draw all that ``pl`` has; ``scores`` are of a benchmark."""
    adata, models = trained(name, folder)
    batch_key, shown, re = DATA_SETS[name].batch_key, SHOWN[name], models["RE"]
    out = folder / f"figures_{name}"
    out.mkdir(exist_ok=True)
    cell_type, source, target = shown.shift
    parts = {"train": re.train_indices, "test": re.test_indices}
    found = smt.bm.confounding(adata, batch_key, ["cell_type"])
    smt.pl.confounding(found, save=out / "confounding.png")
    smt.pl.training(re, save=out / "training.png")
    smt.pl.embeddings(adata, KEYS, [batch_key, "cell_type"], save=out / "embeddings.png")
    smt.pl.batch_effects(re, save=out / "batch_effects.png", **FEW)
    smt.pl.batch_effects_forest(re, n_genes=5, save=out / "batch_effects_forest.png", **FEW)
    smt.pl.batch_effects_heatmap(re, save=out / "batch_effects_heatmap.png", **FEW)
    smt.pl.batch_dendrogram(re, save=out / "batch_dendrogram.png", **FEW)
    components = smt.tl.variance_components(re, progress=False)
    smt.pl.variance_components(components, save=out / "variance_components.png")
    shifts = smt.bm.counterfactual_shift(
        re, adata, batch_key, "cell_type", progress=False, **parts
    )
    smt.pl.counterfactual_shift(shifts, save=out / "counterfactual_shift.png")
    smt.pl.gene_shifts(
        re, adata, batch_key, "cell_type", cell_type=cell_type, source=source, target=target,
        save=out / "gene_shifts.png", **parts,
    )  # fmt: skip
    draw_genomaps(adata, models, shown, out / "genomap_panel.png")


def draw_genomaps(adata: ad.AnnData, models: dict, shown: Shown, file: Path) -> None:
    """Cells as measured, without effects, and as of each batch."""
    types = {"labels_key": "cell_type", "cell_type": list(shown.projected)}
    stack = smt.tl.projection_stack(adata, *models.values(), **types)
    smt.tl.genomap_layout(stack)
    own = stack.obs.query("projection == 'original'").drop_duplicates("batch").set_index("batch")
    cells = own.loc[list(shown.batches), "cell"].tolist()
    smt.pl.genomap_panel(stack, cells, list(shown.batches), similar=0.95, save=file)


def draw_group_effects(file: Path) -> None:
    """The gene with the smallest p-value between AML patients and healthy donors."""
    cells = ad.read_h5ad(data_folder() / DATA_SETS["aml"].file)
    contrast = ("patient_group", "AML", "control")
    groups = cells.obs["patient_group"].cat.reorder_categories(["control", "AML"])
    cells.obs["patient_group"] = groups
    found = smt.tl.group_effects(
        cells, "~ patient_group", "donor", labels_key="cell_type", contrast=contrast
    )
    gene = found.table.loc[found.table["p_value"].idxmin(), "variable"]
    smt.pl.group_effects(found, gene, "patient_group", save=file)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for chosen in SHOWN:
        draw(chosen, folder)
    for drawn in IN_GUIDE:
        copy(folder / "figures_aml" / f"{drawn}.png", GUIDE)
    draw_group_effects(GUIDE / "group_effects.png")
    scores = pd.DataFrame(load("evaluation_cells")["results"])
    smt.pl.scores(scores, "balanced_accuracy", save=GUIDE / "scores.png")
