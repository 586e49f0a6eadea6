"""What holds whatever the data are: splits, folds, scaling, sums, posteriors, orders."""

from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from scmedal_tools import bm, tl
from scmedal_tools._gene_model import GroupSums, fit_mixed_model, posterior_over_genes
from scmedal_tools._sample_model import full_rank, is_estimable, sum_counts
from scmedal_tools.module._scaler import ExpressionScaler
from scmedal_tools.module._statistics import ExpressionStatistics
from scmedal_tools.train import cross_validation_folds, hold_out_combinations, stratified_split

pytestmark = pytest.mark.slow

# The same examples always, or with SCMEDAL_RANDOM_EXAMPLES=1 new ones.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=os.environ.get("SCMEDAL_RANDOM_EXAMPLES") != "1",
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("here")

seeds = st.integers(0, 2**32 - 1)


@st.composite
def cells(draw, min_cells=30, max_cells=200):
    """Batch, cell type and condition of cells; a batch has one condition."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(min_cells, max_cells))
    n_batch, n_types = draw(st.integers(4, 9)), draw(st.integers(1, 5))
    batch = rng.choice(n_batch, n, p=rng.dirichlet(np.ones(n_batch)))
    return pd.DataFrame(
        {
            "batch": [f"b{k}" for k in batch],
            "type": [f"t{k}" for k in rng.integers(n_types, size=n)],
            "condition": np.where(batch % 2, "sick", "well"),
        },
        index=[f"c{i}" for i in range(n)],
    )


def is_partition(parts, n):
    return np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@given(cells(), st.lists(st.floats(0.05, 1), min_size=3, max_size=3), seeds)
def test_splits_divide_the_cells_in_the_shares_asked_for(obs, shares, seed):
    sizes = tuple(np.array(shares) / np.sum(shares))
    parts = stratified_split(obs, ["batch", "type"], sizes, seed)
    assert is_partition(parts, len(obs))
    for of in obs.groupby(["batch", "type"]).indices.values():
        counts = np.array([np.isin(of, part).sum() for part in parts])
        assert (np.abs(counts - np.array(sizes) * len(of)) < 1).all()


@given(cells(80, 300), seeds)
def test_no_training_or_validation_cell_is_of_a_combination_held_out(obs, seed):
    pair = tuple(obs[["batch", "type"]].iloc[seed % len(obs)])
    alone = obs.loc[obs["batch"] == pair[0], "type"].nunique() < 2
    alone = alone or obs.loc[obs["type"] == pair[1], "batch"].nunique() < 2
    try:
        parts, held_out = hold_out_combinations(obs, "batch", "type", [pair], seed=seed)
    except ValueError:
        assert alone
        return
    assert held_out == [pair]
    assert is_partition(parts, len(obs))
    of_pair = np.flatnonzero((obs["batch"] == pair[0]) & (obs["type"] == pair[1]))
    assert np.isin(of_pair, parts[2]).all()


@given(cells(60, 200), st.integers(3, 4), seeds)
def test_every_cell_is_tested_once_and_donors_stay_together(obs, n_folds, seed):
    adata = AnnData(obs=obs)
    for scheme in ("cells", "donors"):
        options = {"n_folds": n_folds, "scheme": scheme, "seed": seed}
        try:
            splits = cross_validation_folds(adata, "batch", "type", **options).splits
        except ValueError as error:
            refusals = r"too small to have training cells|fewer than n_folds|at least 2 levels"
            if not re.search(refusals, str(error)):
                raise
            assume(False)
        assert is_partition([test for *_, test in splits], len(obs))
        batch = obs["batch"].to_numpy()
        for train, validation, test in splits:
            assert is_partition([train, validation, test], len(obs))
            if scheme == "donors":
                known = np.concatenate([train, validation])
                assert not set(batch[test]) & set(batch[known])


@given(seeds, st.sampled_from(["centred", "minmax"]), st.floats(1e-3, 1e3))
def test_scaling_is_inverted(seed, scaling, size):
    rng = np.random.default_rng(seed)
    x = size * rng.gamma(1, 1, (20, 7))
    statistics = ExpressionStatistics(x.mean(0), x.var(0), x.min(), x.max(), [np.array([20])])
    scaler = ExpressionScaler(7, scaling)
    scaler.fit(statistics)
    values = torch.as_tensor(x, dtype=torch.float32)
    scaled = scaler(values)
    np.testing.assert_allclose(scaler.inverse(scaled), values, rtol=1e-4, atol=1e-4 * size)
    genes = torch.tensor([5, 0])
    found = scaler.inverse(scaled[:, genes], genes)
    np.testing.assert_allclose(found, values[:, genes], rtol=1e-4, atol=1e-4 * size)
    if scaling == "minmax":
        assert scaled.min() >= -1e-5
        assert scaled.max() <= 1 + 1e-5


@given(seeds, st.integers(1, 60))
def test_sums_do_not_depend_on_the_minibatches_or_the_order(seed, size):
    rng = np.random.default_rng(seed)
    values, batch, state = (
        rng.normal(size=(60, 4)),
        rng.integers(3, size=60),
        rng.integers(2, size=60),
    )
    whole, parts = GroupSums(3, 2, 4), GroupSums(3, 2, 4)
    whole.add(values, batch, state)
    order = rng.permutation(60)
    for some in np.array_split(order, range(size, 60, size)):
        parts.add(values[some], batch[some], state[some])
    for name in ("sizes", "sums", "squares"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-9)
    np.testing.assert_allclose(parts.noise(), whole.noise())


@given(seeds)
@settings(max_examples=15)
def test_effects_move_with_the_names_of_batches_states_and_genes(seed):
    """Relabelling permutes them; nothing depends on which batch comes first."""
    rng = np.random.default_rng(seed)
    values, batch, state = (
        rng.normal(size=(200, 5)),
        rng.integers(4, size=200),
        rng.integers(3, size=200),
    )
    correlation = torch.eye(3, dtype=torch.double)

    def effects(values, batch, state):
        sums = GroupSums(4, 3, 5)
        sums.add(values, batch, state)
        return fit_mixed_model(sums, correlation).loc

    of_batch, of_state, of_gene = (rng.permutation(n) for n in (4, 3, 5))
    moved = effects(values[:, of_gene], of_batch[batch], of_state[state])
    expected = effects(values, batch, state)[:, :, of_gene]
    np.testing.assert_allclose(moved[of_batch][:, of_state], expected, atol=1e-9)


@given(seeds)
def test_posteriors_are_distributions(seed):
    rng = np.random.default_rng(seed)
    evidence = rng.normal(0, 10 ** rng.uniform(-2, 3), (30, 4))
    posterior = posterior_over_genes(evidence)
    np.testing.assert_allclose(posterior.sum(1), 1)
    assert (posterior >= 0).all()
    order = rng.permutation(4)
    np.testing.assert_allclose(
        posterior_over_genes(evidence[:, order]), posterior[:, order], atol=1e-9
    )


@given(seeds, st.booleans())
def test_counts_are_summed_alike_in_any_format_and_order(seed, given_totals):
    rng = np.random.default_rng(seed)
    counts, group = rng.poisson(2, (40, 6)).astype(float), rng.integers(-1, 3, 40)
    totals = counts.sum(1) + rng.poisson(5, 40) if given_totals else None
    order = rng.permutation(40)
    dense = sum_counts(counts, group, 3, totals)
    moved = sum_counts(
        sparse.csr_matrix(counts)[order],
        group[order],
        3,
        None if totals is None else totals[order],
    )
    for name in ("counts", "totals", "n_cells", "squares"):
        np.testing.assert_allclose(getattr(moved, name), getattr(dense, name), atol=1e-9)


@given(seeds, st.integers(1, 5), st.integers(0, 3))
def test_what_is_estimable_is_the_same_for_all_that_fit(seed, rank, n_dependent):
    rng = np.random.default_rng(seed)
    design = rng.integers(-2, 3, (12, rank)).astype(float)
    design = np.hstack([design, design @ rng.integers(-1, 2, (rank, n_dependent))])
    weights = rng.integers(-1, 2, (1, 12)) @ design
    assert is_estimable(design, weights)
    _, sizes, directions = np.linalg.svd(design)
    for direction in directions[np.sum(sizes > 1e-9) :]:  # that no row tells of
        assert not is_estimable(design, weights + direction)
    columns, of_all = full_rank(design)
    y = rng.normal(size=12)
    whole, part = (np.linalg.lstsq(x, y)[0] for x in (design, design[:, columns]))
    np.testing.assert_allclose(weights @ of_all @ part, weights @ whole, atol=1e-8)


@pytest.mark.slow
@given(seeds)
@settings(max_examples=5)
def test_cells_and_names_in_another_order_have_the_same_latents(cells_of_session, seed):
    model, adata = cells_of_session
    rng = np.random.default_rng(seed)
    rows = rng.permutation(adata.n_obs)
    moved = adata[rows].copy()
    moved.obs["donor"] = moved.obs["donor"].cat.reorder_categories(
        rng.permutation(moved.obs["donor"].cat.categories)
    )
    expected = model.get_latent_representation(adata.copy())[rows]
    np.testing.assert_allclose(model.get_latent_representation(moved), expected, atol=1e-5)


@pytest.fixture(scope="module")
def cells_of_session(fit, cells):
    adata = cells.copy()
    adata.obs["donor"] = adata.obs["donor"].astype("category")
    return fit("SCMEDAL_RE", adata), adata


@given(seeds, st.integers(2, 40), st.sampled_from(["grid", "rings"]))
@settings(max_examples=20)
def test_images_hold_each_gene_once_at_its_pixel(seed, n_genes, layout):
    pytest.importorskip("ot")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 3)) @ rng.normal(size=(3, n_genes))
    adata = AnnData(np.float32(x + rng.normal(size=x.shape)))
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    tl.genomap_layout(adata, layout=layout, progress=False)
    pixels = adata.uns["genomap"]["pixels"]
    assert list(pixels.index) == list(adata.var_names)
    assert not pixels.duplicated().any()
    images = tl.genomap_images(adata)[:]
    np.testing.assert_array_equal(images[:, pixels["row"], pixels["column"]], adata.X)
    assert (np.isfinite(images).sum((1, 2)) == n_genes).all()
    if layout == "rings":  # in a grid, what is equally good is decided by the order
        moved = adata[:, rng.permutation(n_genes)].copy()
        tl.genomap_layout(moved, layout=layout, progress=False)
        pd.testing.assert_frame_equal(moved.uns["genomap"]["pixels"].loc[pixels.index], pixels)


@given(cells(), seeds)
@settings(max_examples=20)
def test_scores_are_the_same_whatever_batches_and_types_are_called(obs, seed):
    assume(obs[["batch", "type"]].nunique().min() > 1)
    rng = np.random.default_rng(seed)
    adata = AnnData(obs=obs, obsm={"X": rng.normal(size=(len(obs), 3))})
    renamed = adata.copy()
    for column in ("batch", "type"):
        codes, levels = pd.factorize(obs[column])
        renamed.obs[column] = rng.permutation([f"n{i}" for i in range(len(levels))])[codes]
    expected, found = (bm.scores(a, ["X"], "batch", "type") for a in (adata, renamed))
    pd.testing.assert_frame_equal(found, expected, atol=1e-9)


@given(seeds)
@settings(max_examples=5)
def test_group_effects_move_with_the_genes(seed):
    rng = np.random.default_rng(seed)
    donor, n_genes = np.repeat(np.arange(6), 8), 20
    rates = rng.gamma(1, 4, n_genes) * rng.lognormal(0, 0.3, (6, n_genes))
    columns = {"donor": donor.astype(str), "old": donor // 3, "type": np.arange(48) % 2}
    adata = AnnData(rng.poisson(rates[donor]).astype(float), pd.DataFrame(columns).rename(str))
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    moved = adata[:, rng.permutation(n_genes)].copy()
    expected, found = (
        tl.group_effects(cells, "~ old", "donor", labels_key="type", min_cells=2).table
        for cells in (adata, moved)
    )
    by_gene = ["state", "variable"]
    found, expected = (table.set_index(by_gene).sort_index() for table in (found, expected))
    pd.testing.assert_frame_equal(found, expected, atol=1e-9)


def test_cell_types_are_predicted_alike_whatever_they_are_called(build, cells):
    named = {"type_1": "b", "type_2": "c", "type_3": "a"}
    adata, renamed = cells.copy(), cells.copy()
    renamed.obs["cell_type"] = cells.obs["cell_type"].astype(str).map(named)
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
    tables = []
    for of_names, order in ((adata, [0, 1, 2]), (renamed, [2, 0, 1])):
        model = build("SCMEDAL_FEC", of_names, {"labels_key": "cell_type"})
        with torch.no_grad():  # each type starts with the same weights
            for weights in model.module.label_classifier[-1].parameters():
                weights.copy_(weights[order])
        model.train(**options)
        tables.append(model.predict(soft=True))
    expected = tables[0].rename(columns=named)
    pd.testing.assert_frame_equal(tables[1][list(expected)], expected, atol=1e-5)
