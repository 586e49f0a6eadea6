"""What users call with cells and trained models, as a table to go over with unusual data."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scvi
from scipy import sparse

import scmedal_tools as smt
from scmedal_tools import bm, ext, pl, tl

QUIET = {"progress": False}
COLUMNS = ("donor", "kind")  # kinds are the models' cell types, in a column of their own


class Models(NamedTuple):
    """One of each class, of the same cells."""

    re: smt.model.SCMEDAL_RE
    fe: smt.model.SCMEDAL_FE
    fec: smt.model.SCMEDAL_FEC


def some(models):
    """Two batches, as targets."""
    return list(models.re.batch_names[[0, -1]])


def parts_of(adata):
    """Positions of training, validation and test cells."""
    part = np.arange(adata.n_obs) // 12 % 4
    return [np.flatnonzero(np.isin(part, kinds)) for kinds in ([0, 1], [2], [3])]


def embedded(models, adata):
    tl.embed(adata, models.re, "X_re")
    tl.embed(adata, models.fe, "X_fe")
    return adata


def counterfactuals(models, adata):
    targets = models.re.get_counterfactual_expression(
        adata, transform_batch=some(models), return_numpy=True
    )
    return np.stack(list(targets.values()))


def written(models, adata):
    with TemporaryDirectory() as folder:
        path = Path(folder, "cells.npy")
        return np.array(tl.write_counterfactuals(models.re, adata, some(models), path, **QUIET))


def query(models, adata):
    """Latents of cells that are all of a new donor, after an epoch for its effects."""
    first, last = models.re.batch_names[[0, -1]]  # a new one is of their type
    new = "new" if isinstance(last, str) else last + (last - first)
    donor = adata.obs["donor"]
    adata.obs["donor"] = pd.Series(new, adata.obs_names)
    try:
        scvi.settings.seed = 0
        model = smt.model.SCMEDAL_RE.load_query_data(adata, models.re, accelerator="cpu")
        quietly = {"enable_progress_bar": False, "logger": False}
        model.train(max_epochs=1, accelerator="cpu", **quietly)
        return model.get_latent_representation()
    finally:
        adata.obs["donor"] = donor


def prepared(models, adata):
    return dense(smt.model.SCMEDAL_RE.prepare_query_anndata(adata, models.re, inplace=False).X)


def preprocessed(models, adata):
    options = {"layer": "counts", "batch_key": "donor", "n_top_genes": 8, "min_genes": 1}
    return dense(smt.pp.preprocess(adata, min_cells=1, copy=True, **options).X)


def means(models, adata):
    options = {"labels_key": "kind", "n_samples": 3, "interval": 0.5} | QUIET
    found = tl.counterfactual_means(models.re, adata, some(models)[0], **options)
    return np.stack([found.X, found.layers["upper"]])


def umap(models, adata):
    tl.umap(embedded(models, adata), "X_re")
    return adata.obsm[tl.umap_key("X_re")]


def donors(models, adata):
    return tl.donor_embedding(models.re, adata, by="kind").X


def distances(models, adata):
    return tl.donor_distances(models.re, adata, by="kind", n_samples=3).distance


def abundance(models, adata):
    return tl.differential_abundance(
        models.re, adata, group_key="condition", n_neighbors=15, n_centres=8, n_permutations=20
    )


def support(models, adata):
    supported = tl.admissibility(models.re, adata)
    return supported.groupby(adata.obs["kind"].astype(str)).mean()


def gene_test(models, adata):
    kinds = pd.Series(np.asarray(adata.obs["kind"])).dropna()
    options = {"labels_key": "kind", "label": next(iter(kinds), "")}
    table = tl.counterfactual_de(
        models.re, adata, "condition", 20, n_samples=2, **QUIET, **options
    )
    return table.drop(columns=["group", "reference"])


def stack(models, adata):
    return tl.projection_stack(adata, models.fe, models.re, 4).layers["expression"]


def group_effects(models, adata):
    options = {"labels_key": "kind", "layer": "counts", "min_cells": 2}
    return tl.group_effects(adata, "~ condition", "donor", **options).table


def pseudobulk(models, adata):
    options = {"labels_key": "kind", "layer": "counts", "min_cells": 2}
    return tl.pseudobulk_de(adata, "~ condition", "donor", **options)


def confounding(models, adata):
    return bm.confounding(adata, "donor", ["kind", "condition"], depth_key="depth").summary


def scores(models, adata):
    return bm.scores(embedded(models, adata), ["X_re", "X_fe"], *COLUMNS)


def mixing(models, adata):
    table, votes = bm.mixing_classifier(
        embedded(models, adata),
        ["X_fe"],
        "condition",
        parts_of(adata),
        batch_key="donor",
        random_effects="X_re",
        n_trees=3,
    )
    bm.score_votes(votes, 20)
    return table


def cross_validation(models, adata):
    result = bm.cross_validate(
        embedded(models, adata),
        *COLUMNS,
        ["condition"],
        models=["X_re"],
        n_folds=3,
        folds=[0],
        n_trees=3,
        **QUIET,
    )
    bm.paper_tables(result)
    return result.table


def donor_prediction(models, adata):
    options = {"total_counts_key": "depth", "n_permutations": 1} | QUIET
    return bm.donor_prediction(adata, "donor", "condition", "kind", **options).table


def shifts(models, adata):
    """Of three donors, as each pair of donors and type has to be predicted."""
    some_donors = np.flatnonzero(pd.factorize(np.asarray(adata.obs["donor"]))[0] < 3)
    train, _, test = (np.intersect1d(part, some_donors) for part in parts_of(adata))
    options = {"train": train, "test": test, "min_cells": 2, "baselines": False} | QUIET
    table = bm.counterfactual_shift(models.re, adata, *COLUMNS, **options)
    bm.shift_summary(table)
    return table


def swaps(models, adata):
    first = tuple(str(next(iter(adata.obs[column]), "")) for column in COLUMNS)
    return bm.swap_quality(models.re, adata, *COLUMNS, targets=[first], min_cells=2, **QUIET)


def held_out(models, adata):
    parts, _ = smt.train.hold_out_combinations(adata.obs, *COLUMNS, 1, min_cells=5)
    return np.concatenate(parts)


def genomap(models, adata):
    tl.genomap_layout(adata, max_iter=2, **QUIET)
    return tl.genomap_images(adata)[:3]


def figures(models, adata):
    """With the names of levels in axes, legends and titles."""
    pl.batch_effects_forest(models.re, n_genes=2, n_samples=2)
    pl.confounding(bm.confounding(adata, "donor", ["kind", "condition"]))
    adata = embedded(models, adata)
    adata.obsm[tl.umap_key("X_re")] = adata.obsm["X_re"][:, :2]
    pl.embeddings(adata, ["X_re"], ["donor", "kind", "condition"])
    pl.umap(adata, "X_re", ["donor", "kind", "condition"])
    options = {"labels_key": "kind", "layer": "counts", "min_cells": 2}
    found = tl.group_effects(adata, "~ condition", "donor", **options)
    pl.group_effects(found, found.table["variable"].iloc[0], "condition")
    for axes in map(plt.figure, plt.get_fignums()):
        axes.canvas.draw()


CALLS = {
    "latent of RE": lambda m, a: m.re.get_latent_representation(a),
    "content of RE": lambda m, a: m.re.get_latent_representation(a, kind="content"),
    "latent of FE": lambda m, a: m.fe.get_latent_representation(a),
    "prediction": lambda m, a: m.fec.predict(a, soft=True),
    "reconstruction": lambda m, a: m.re.get_reconstruction(a),
    "swap gap": lambda m, a: m.re.get_swap_gap(a),
    "error": lambda m, a: list(m.re.get_reconstruction_error(a).values()),
    "correction by RE": lambda m, a: m.re.get_corrected_expression(a),
    "correction by FE": lambda m, a: m.fe.get_corrected_expression(a),
    "counterfactuals": counterfactuals,
    "written": written,
    "blocks": lambda m, a: np.concatenate(
        [block.values for block in m.re.iter_expression(a, transform_batch=some(m))]
    ),
    "residuals kept": lambda m, a: m.re.get_counterfactual_expression(
        a, transform_batch=some(m)[0], keep_residual=True
    ),
    "effects": lambda m, a: m.re.get_batch_effects(n_samples=2),
    "similarity": lambda m, a: tl.batch_similarity(m.re, n_samples=2, **QUIET),
    "query": query,
    "prepared": prepared,
    "preprocessed": preprocessed,
    "embed": lambda m, a: embedded(m, a).obsm["X_re"],
    "combine": lambda m, a: a.obsm[tl.combine(embedded(m, a), ["X_re", "X_fe"])],
    "umap": umap,
    "means": means,
    "diagnostics": lambda m, a: tl.effects_diagnostics(m.re, a).swap_gap,
    "components": lambda m, a: tl.variance_components(m.re, a, n_samples=2, **QUIET),
    "admissibility": support,
    "abundance": abundance,
    "gene test": gene_test,
    "donors": donors,
    "distances": distances,
    "stack": stack,
    "group effects": group_effects,
    "pseudobulk": pseudobulk,
    "genomap": genomap,
    "confounding": confounding,
    "scores": scores,
    "mixing": mixing,
    "cross-validation": cross_validation,
    "donor prediction": donor_prediction,
    "shifts": shifts,
    "swaps": swaps,
    "PCA": lambda m, a: a.obsm[ext.pca(a, batch_key="donor", n_latent=3)],
    "Harmony": lambda m, a: a.obsm[ext.harmony(a, batch_key="donor", n_latent=3)],
    "splits": lambda m, a: np.concatenate(smt.train.stratified_split(a.obs, COLUMNS)),
    "held out": held_out,
    "folds": lambda m, a: np.concatenate(
        smt.train.cross_validation_folds(a, *COLUMNS, n_folds=3).splits[0]
    ),
}


def numbers(result):
    """All numbers of a result, to be compared."""
    if isinstance(result, pd.DataFrame):
        result = result.select_dtypes(["number", "bool"])
    return np.asarray(result, dtype=float)


def called(name, models, adata):
    """Numbers that a call gives, whatever it warns of in so few cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return numbers(CALLS[name](models, adata))


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)
