"""Numbers outside their range and names that there are not: refused, with what is allowed."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest

import scmedal_tools as smt
from scmedal_tools import bm, pl, pp, tl

from .calls import COLUMNS, QUIET, embedded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Most of these cells")]

TARGET = {"transform_batch": "donor 0"}
N = (0, -1, 1.5, True, "3")
"""No numbers of anything."""


def method(name, **needed):
    def call(models, adata, **given):
        found = getattr(models.re, name)(**needed, **given)
        return list(found) if inspect.isgenerator(found) else found

    return call


def of_fe(models, adata, **given):
    models.fe.get_latent_representation(**given)


def scored_votes(models, adata, **given):
    votes = {"embedding": ["X"] * 6, "of": ["sex"] * 6, "truth": list("fffmmm")}
    bm.score_votes(pd.DataFrame(votes | {"vote": votes["truth"]}), **given)


def mixing(models, adata, **given):
    parts = [np.arange(0, 100), np.arange(100, 120), np.arange(120, 144)]
    embedded(models, adata)
    bm.mixing_classifier(adata, ["X_re"], "condition", parts, batch_key="donor", **given)


def preprocessed(models, adata, **given):
    pp.preprocess(adata, layer="counts", **given)


def prediction(models, adata, **given):
    bm.donor_prediction(adata, "donor", "condition", "kind", **given | QUIET)


def validation(models, adata, labels_key="kind", **given):
    options = {"models": ["pca"], "n_folds": 3} | QUIET
    bm.cross_validate(adata, "donor", labels_key, **options | given)


COUNTS = {
    "latent": (method("get_latent_representation"), ("n_samples", "batch_size")),
    "latent of FE": (of_fe, ("batch_size",)),
    "reconstruction": (method("get_reconstruction"), ("n_samples", "batch_size")),
    "error": (method("get_reconstruction_error"), ("batch_size",)),
    "correction": (method("get_corrected_expression"), ("batch_size",)),
    "swap gap": (method("get_swap_gap"), ("batch_size",)),
    "effects": (method("get_batch_effects"), ("n_cells",)),
    "counterfactuals": (
        method("get_counterfactual_expression", **TARGET),
        ("n_samples", "batch_size"),
    ),
    "blocks": (method("iter_expression", **TARGET), ("n_samples", "batch_size")),
    "similarity": (
        lambda m, a, **given: tl.batch_similarity(m.re, **{"n_samples": 2} | given | QUIET),
        ("n_samples", "n_cells"),
    ),
    "components": (
        lambda m, a, **given: tl.variance_components(m.re, **{"n_samples": 2} | given | QUIET),
        ("n_samples", "n_cells"),
    ),
    "distances": (
        lambda m, a, **given: tl.donor_distances(m.re, **{"n_samples": 2} | given),
        ("n_samples", "n_cells"),
    ),
    "donors": (lambda m, a, **given: tl.donor_embedding(m.re, **given), ("n_cells",)),
    "abundance": (
        lambda m, a, **given: tl.differential_abundance(m.re, group_key="condition", **given),
        ("n_neighbors", "n_centres", "n_permutations"),
    ),
    "admissibility": (lambda m, a, **given: tl.admissibility(m.re, **given), ("n_neighbors",)),
    "gene test": (
        lambda m, a, **given: tl.counterfactual_de(m.re, a, "condition", **given | QUIET),
        ("cells",),
    ),
    "means": (
        lambda m, a, **given: tl.counterfactual_means(m.re, a, ["donor 0"], **given | QUIET),
        ("n_samples",),
    ),
    "umap": (
        lambda m, a, **given: tl.umap(embedded(m, a), "X_re", **given),
        ("n_neighbors",),
    ),
    "genomap": (
        lambda m, a, **given: tl.genomap_layout(a, **given | QUIET),
        ("max_iter",),
    ),
    "preprocess": (preprocessed, ("n_top_genes",)),
    "donor prediction": (prediction, ("n_top_genes", "n_permutations")),
    "votes": (scored_votes, ("n_permutations",)),
    "mixing": (mixing, ("n_trees",)),
    "scores": (
        lambda m, a, **given: bm.scores(embedded(m, a), ["X_re"], *COLUMNS, **given),
        ("max_cells",),
    ),
    "cross-validation": (validation, ("n_top_genes", "n_trees", "max_cells")),
    "forest": (lambda m, a, **given: pl.batch_effects_forest(m.re, **given), ("n_genes",)),
}  # fmt: skip
CASES = [
    (name, argument, n) for name, (_, takes) in COUNTS.items() for argument in takes for n in N
]


@pytest.mark.parametrize(("name", "argument", "n"), CASES)
def test_numbers_of_things(study, models, name, argument, n):
    with pytest.raises(ValueError, match=f"^{argument}={n!r} has to be at least 1, and a whole"):
        COUNTS[name][0](models, study.copy(), **{argument: n})


OF_CELLS = [
    ({"target_sum": 0}, "target_sum=0 has to be a number above 0"),
    ({"target_sum": float("nan")}, "target_sum=nan has to be a number"),
    ({"min_genes": -1}, "min_genes=-1 has to be at least 0"),
    ({"min_cells": 0.5}, "min_cells=0.5 has to be at least 0"),
]


@pytest.mark.parametrize(("given", "message"), OF_CELLS)
def test_preprocessing(study, given, message):
    adata = study.copy()
    with pytest.raises(ValueError, match=message):
        pp.preprocess(adata, layer="counts", **given)
    assert np.array_equal(adata.X, study.X)


def test_a_distance_of_a_umap(study, models):
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match=f"min_dist={wrong} has to be a number of at least 0"):
            tl.umap(embedded(models, study.copy()), "X_re", min_dist=wrong)


def test_an_interval_without_draws(study, models):
    with pytest.raises(ValueError, match=r"interval=2\.0 is outside its range"):
        tl.counterfactual_means(models.re, study.copy(), ["donor 0"], interval=2.0, **QUIET)


def test_one_position(models):
    with pytest.raises(TypeError, match=re.escape("indices=3 is one position: pass indices=[3]")):
        models.re.get_latent_representation(indices=3)


def test_a_list_of_columns(study):
    with pytest.raises(TypeError, match=re.escape("batch_key=['donor'] is no name")):
        smt.model.SCMEDAL_RE.setup_anndata(study.copy(), batch_key=["donor"])


def test_neither_a_column_nor_a_gene(study, models):
    adata = embedded(models, study.copy())
    with pytest.raises(KeyError, match=r"\['nonsense'\] not in adata.obs and no gene"):
        pl.umap(adata, "X_re", ["donor", "nonsense", "gene 1"])
    assert tl.umap_key("X_re") not in adata.obsm  # it says so before the minute of a UMAP


@pytest.mark.parametrize("folds", [0, [], [7]])
def test_folds(study, models, folds):
    with pytest.raises(ValueError, match=re.escape(f"folds={folds!r}: name some of")):
        validation(models, study.copy(), folds=folds)


def test_batches_as_cell_types(study, models):
    with pytest.raises(ValueError, match="batch_key and labels_key are both 'donor'"):
        validation(models, study.copy(), labels_key="donor")


@pytest.mark.parametrize(
    "given", [{"n_samples": 1.5}, {"aggregate": "median"}, {"batch_size": -1}, {"n_samples": 0}]
)
@pytest.mark.parametrize("end", ["npy", "zarr"])
def test_a_refused_call_leaves_no_files(study, models, tmp_path, given, end):
    path = tmp_path / f"a.{end}"
    with pytest.raises(ValueError, match=next(iter(given))):
        tl.write_counterfactuals(models.re, study.copy(), "donor 0", path, **given | QUIET)
    assert list(tmp_path.iterdir()) == []
