"""The comparison with measured shifts, on made-up cells of which everything is known."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats

from scmedal_tools import bm
from scmedal_tools.bm._counterfactuals._counterfactual_shift import known_cells
from scmedal_tools.train import stratified_split

from .world import (
    TYPES,
    Method,
    by_combination,
    draw,
    everything,
    expectation,
    measure,
    oracle,
    scenarios,
    without_training,
)

COLUMNS = ["method", "regime", "cell_type", "source", "target"]
SCORES = ["correlation", "slope", "error", "noise", "ceiling"]


@pytest.fixture(scope="module")
def still():
    """Cells that do not differ inside a combination."""
    return draw(noise=0)


class TestWithoutNoise:
    def test_the_truth_is_perfect(self, still):
        table = measure(still, oracle(still))
        np.testing.assert_allclose(table[["correlation", "slope", "ceiling"]], 1, atol=1e-6)
        np.testing.assert_allclose(table[["error", "noise"]], 0, atol=1e-10)

    @pytest.mark.parametrize("factor", [0.5, 2.0, -1.0])
    def test_a_scaled_truth_correlates_but_is_not_calibrated(self, still, factor):
        table = measure(still, oracle(still, factor))
        np.testing.assert_allclose(table["correlation"], np.sign(factor), atol=1e-6)
        np.testing.assert_allclose(table["slope"], 1 / factor, atol=1e-6)
        np.testing.assert_allclose(table["error"], (1 - factor) ** 2, atol=1e-6)

    def test_nothing_predicted_has_an_error_of_one(self, still):
        table = measure(still, lambda cells, target: still.adata.X[cells])
        np.testing.assert_allclose(table["error"], 1, atol=1e-6)
        assert table[["correlation", "slope"]].isna().all(axis=None)

    def test_what_all_targets_share_does_not_count(self, still):
        truth = oracle(still)
        gene = np.linspace(-9, 9, still.adata.n_vars)
        table = measure(still, lambda cells, target: truth(cells, target) + gene * len(cells))
        np.testing.assert_allclose(table["error"], 0, atol=1e-10)


class TestScores:
    """With noise, and a model that is wrong."""

    @pytest.fixture(scope="class")
    def table(self, world):
        return measure(world, oracle(world, 0.6))

    def test_columns(self, table):
        assert list(table) == COLUMNS + SCORES
        assert scenarios(table) == everything()
        assert len(table) == len(everything())

    @pytest.mark.parametrize("row", [0, 7, 35])
    def test_agree_with_a_direct_computation(self, world, table, row):
        row = table.iloc[row]
        groups = by_combination(world, "test")
        means, variances = groups.mean(), groups.var(ddof=1)
        a, b = (row["source"], row["cell_type"]), (row["target"], row["cell_type"])
        measured = (means.loc[b] - means.loc[a]).to_numpy()
        predicted = 0.6 * (world.means[b] - world.means[a])
        noise = sum((variances.loc[key] / groups.size()[key]).sum() for key in (a, b))
        size = (measured**2).sum()
        fit = stats.linregress(predicted, measured)
        error = (((measured - predicted) ** 2).sum() - noise) / (size - noise)
        assert row["correlation"] == pytest.approx(fit.rvalue)
        assert row["slope"] == pytest.approx(fit.slope)
        assert row["noise"] == pytest.approx(noise / size)
        assert row["error"] == pytest.approx(error)

    def test_sparse_expression_is_the_same(self, world, table):
        adata = AnnData(sparse.csr_matrix(world.adata.X), obs=world.adata.obs)
        in_sparse = SimpleNamespace(adata=adata, parts=world.parts)
        pd.testing.assert_frame_equal(
            measure(in_sparse, {"predict": oracle(world, 0.6)}), table, check_exact=False
        )


class TestNoise:
    def test_is_taken_out_of_the_error(self):
        errors, raw, shares = [], [], []
        for seed in range(4):
            world = draw(noise=1.5, effect_sd=0.4, interaction_sd=0.2, n_genes=60, seed=seed)
            table = measure(world, expectation(world))
            errors.append(table["error"])
            shares.append(table["noise"])
            means = by_combination(world, "test").mean()
            for row in table.itertuples():
                a, b = (row.source, row.cell_type), (row.target, row.cell_type)
                measured = (means.loc[b] - means.loc[a]).to_numpy()
                true = world.means[b] - world.means[a]
                raw.append(((measured - true) ** 2).sum() / (measured**2).sum())
        errors, shares = np.concatenate(errors), np.concatenate(shares)
        assert shares.mean() > 0.3
        np.testing.assert_allclose(np.mean(raw), shares.mean(), rtol=0.1)
        assert abs(errors.mean()) < 0.05

    def test_more_noise_than_shift_leaves_no_error_to_tell(self):
        world = draw(effect_sd=0, interaction_sd=0)
        table = measure(world, oracle(world))
        assert 0 < (table["noise"] > 1).sum() < len(table)
        np.testing.assert_array_equal(table["error"].isna(), table["noise"] > 1)

    def test_ceiling_is_the_correlation_that_the_truth_reaches(self):
        world = draw(noise=1.5, effect_sd=0.4, interaction_sd=0.2, n_genes=800)
        table = measure(world, expectation(world))
        assert table["correlation"].between(0.5, 0.9).all()
        np.testing.assert_allclose(table["ceiling"].mean(), table["correlation"].mean(), atol=0.03)

    def test_ceiling_is_high_without_noise_and_low_without_shift(self):
        quiet = draw(noise=0.01)
        assert measure(quiet, oracle(quiet))["ceiling"].min() > 0.99
        noise = draw(effect_sd=0, interaction_sd=0, n_genes=800)
        assert measure(noise, oracle(noise))["ceiling"].mean() < 0.15


class TestRegimes:
    HELD_OUT = (("B", "x"), ("C", "z"))

    @pytest.fixture(scope="class")
    def train(self, world):
        return without_training(world, *self.HELD_OUT)

    def test_a_combination_without_training_cells_is_held_out(self, world, train):
        table = measure(world, oracle(world), train=train)
        # There is nothing to predict from in a held-out combination.
        expected = {s for s in everything() if (s[1], s[0]) not in self.HELD_OUT}
        assert scenarios(table) == expected
        targets = zip(table["target"], table["cell_type"], strict=True)
        regimes = ["held out" if pair in self.HELD_OUT else "seen" for pair in targets]
        assert table["regime"].tolist() == regimes
        assert regimes.count("held out") == 6

    def test_held_out_ones_can_be_asked_for_alone(self, world, train):
        table = measure(world, oracle(world, 0.6), train=train)
        alone = measure(world, oracle(world, 0.6), train=train, held_out_only=True)
        expected = table[table["regime"] == "held out"].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, expected)

    def test_a_few_training_cells_are_neither(self, world):
        train = without_training(world, ("B", "x"), keep=9)
        table = measure(world, oracle(world), train=train, min_cells=10)
        assert scenarios(table) == {s for s in everything() if s[0] != "x" or "B" not in s}
        assert set(table["regime"]) == {"seen"}
        assert scenarios(measure(world, oracle(world), train=train, min_cells=9)) == everything()

    def test_one_cell_has_no_noise(self, world):
        with pytest.raises(ValueError, match="min_cells=1: the noise of a mean needs two cells"):
            measure(world, oracle(world), min_cells=1)

    @pytest.mark.parametrize("min_cells", [5, 12])
    def test_few_test_cells_are_left_out(self, world, min_cells):
        few = [i for i in world.parts["test"] if world.keys[i] == ("A", "y")]
        test = np.setdiff1d(world.parts["test"], few[5:])
        table = measure(world, oracle(world), test=test, min_cells=min_cells)
        expected = everything()
        if min_cells > 5:
            expected = {s for s in expected if s[0] != "y" or "A" not in s}
        assert scenarios(table) == expected

    def test_no_combination_with_enough_cells(self, world):
        with pytest.raises(
            ValueError, match=r"No combination has 13 test cells.*Lower `min_cells`"
        ):
            measure(world, oracle(world), min_cells=13)

    def test_none_is_held_out(self, world):
        with pytest.raises(ValueError, match="No combination held out has 10 test cells"):
            measure(world, oracle(world), held_out_only=True)

    @pytest.mark.parametrize("baselines", [False, True])
    def test_a_batch_without_training_cells_is_left_out(self, world, baselines):
        train = without_training(world, *[("A", label) for label in TYPES])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # harmonypy may be missing
            table = measure(world, oracle(world), train=train, baselines=baselines)
        assert scenarios(table) == {s for s in everything() if "A" not in s}


class TestCells:
    @pytest.mark.parametrize("part", ["train", "test"])
    @pytest.mark.parametrize("cells", [None, []])
    def test_unknown_ones_are_asked_for(self, world, part, cells):
        with pytest.raises(ValueError, match=f"Which cells are the {part} cells.*`{part}`"):
            measure(world, oracle(world), **{part: cells})

    def test_the_models_own_are_the_default(self, world):
        class Model:
            train_indices, test_indices = (part[:-12] for part in world.parts.values())
            __call__ = staticmethod(oracle(world, 0.6))

        ours = {"train": None, "test": None}
        table = measure(world, Model(), **ours)
        given = {"train": Model.train_indices, "test": list(Model.test_indices)}
        pd.testing.assert_frame_equal(table, measure(world, Model(), **given))
        # The last twelve cells of each part are those of D and z.
        assert scenarios(table) == {s for s in everything() if s[0] != "z" or "D" not in s}
        assert scenarios(measure(world, Model())) == everything()
        among = {"function": oracle(world), "model": Model()}
        assert scenarios(measure(world, among, **ours)) == scenarios(table)

    def test_training_cells_are_not_judged_on(self, world):
        with pytest.raises(ValueError, match="both training and test cells"):
            measure(world, oracle(world), test=[*world.parts["test"], world.parts["train"][0]])

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_models_of_different_splits_are_refused(self, world, part):
        one, two = (
            Method(oracle(world), cells["train"], cells["test"])
            for cells in (world.parts, world.parts | {part: world.parts[part][1:]})
        )
        with pytest.raises(ValueError, match=f"models have different {part} cells"):
            measure(world, {"one": one, "two": two}, train=None, test=None)
        measure(world, {"one": one, "two": two})  # the cells are given

    def test_models_may_name_their_cells_in_any_order(self, world):
        one, two = (
            SimpleNamespace(train_indices=train, test_indices=test)
            for train, test in (world.parts.values(), [x[::-1] for x in world.parts.values()])
        )
        found = known_cells({"one": one, "two": two}, world.adata, None, None)
        for cells, expected in zip(found, world.parts.values(), strict=True):
            np.testing.assert_array_equal(np.sort(cells), expected)

    def test_only_training_cells_are_moved(self, world):
        asked = set()

        def spy(cells, target):
            asked.update(cells)
            return world.adata.X[cells]

        measure(world, spy)
        assert asked == set(world.parts["train"])

    @pytest.mark.parametrize("key", ["donor", "type"])
    def test_missing_names_are_refused(self, world, key):
        adata = world.adata.copy()
        adata.obs.iloc[3, adata.obs.columns.get_loc(key)] = None
        with pytest.raises(ValueError, match=f"'{key}' is missing in 1 of 288 cells"):
            measure(SimpleNamespace(adata=adata, parts=world.parts), oracle(world))


class TestMethods:
    def test_each_of_several_is_scored_as_if_alone(self, world):
        def half(cells, target):
            return oracle(world, 0.5)(cells, target)

        table = measure(world, {"one": oracle(world), "two": half})
        assert table["method"].tolist() == ["one", "two"] * len(everything())
        alone = measure(world, half)
        assert set(alone["method"]) == {"half"}
        two = table[table["method"] == "two"].reset_index(drop=True)
        pd.testing.assert_frame_equal(two.assign(method="half"), alone)

    @pytest.mark.slow
    def test_a_model_is_asked_for_counterfactuals_and_reconstructions(self, cells, fit):
        parts = stratified_split(cells.obs, ["donor", "cell_type"])
        model = fit("SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": parts})
        adata = model.adata
        table = bm.counterfactual_shift(
            model, adata, "donor", "cell_type", min_cells=3, baselines=False, progress=False
        )
        assert set(table["method"]) == {"RE"}
        reconstruction = model.get_reconstruction()
        position = pd.Series(np.arange(adata.n_obs), adata.obs_names)
        for row in table.iloc[::9].itertuples():
            of_type = (adata.obs["cell_type"] == row.cell_type).to_numpy()
            a, b = ((adata.obs["donor"] == d).to_numpy() for d in (row.source, row.target))
            train, test = (position.isin(part).to_numpy() for part in (parts[0], parts[2]))
            swapped = model.get_counterfactual_expression(transform_batch=row.target)
            moved = (swapped - reconstruction)[of_type & a & train].mean()
            x = adata.to_df()
            measured = x[of_type & b & test].mean() - x[of_type & a & test].mean()
            fit_ = stats.linregress(moved, measured)
            assert row.correlation == pytest.approx(fit_.rvalue, abs=1e-4)
            assert row.slope == pytest.approx(fit_.slope, rel=1e-3)

    @pytest.mark.slow
    def test_a_model_without_test_cells(self, cells, fit):
        model = fit("SCMEDAL_RE", cells.copy(), max_epochs=1)
        with pytest.raises(ValueError, match=r"Which cells are the test cells.*external_indexing"):
            bm.counterfactual_shift(model, model.adata, "donor", "cell_type")


@pytest.mark.slow
class TestBaselines:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("harmonypy")

    def test_stand_beside_the_models(self, world):
        train = without_training(world, ("B", "x"), ("C", "z"))
        table = measure(world, oracle(world), train=train, baselines=True)
        methods = table["method"].unique()
        assert list(methods) == [
            "predict",
            "additive",
            "mean of other contexts",
            "least squares (given cell types)",
            "mixed model (given cell types)",
            "least squares (Harmony clusters)",
            "mixed model (Harmony clusters)",
        ]
        assert table["method"].value_counts().nunique() == 1
        # B and C have no other type in common than y.
        alone = table["method"].eq("mean of other contexts") & table["cell_type"].eq("y")
        alone &= table["source"].isin(["B", "C"]) & table["target"].isin(["B", "C"])
        assert alone.sum() == 2
        assert np.isfinite(table.loc[~alone, ["correlation", "slope"]]).all(axis=None)
        np.testing.assert_allclose(table.loc[alone, "error"], 1)
        # By hand: the difference of the batches' means over training cells, whatever they are.
        x = world.adata.to_df()
        means = x.iloc[train].groupby(world.adata.obs["donor"].to_numpy()[train]).mean()
        of = by_combination(world, "test").mean()
        for row in table[table["method"] == "additive"].iloc[::5].itertuples():
            predicted = means.loc[row.target] - means.loc[row.source]
            a, b = (of.loc[donor, row.cell_type] for donor in (row.source, row.target))
            fit = stats.linregress(predicted, b - a)
            assert row.correlation == pytest.approx(fit.rvalue)
            assert row.slope == pytest.approx(fit.slope)

    def test_are_right_where_effects_are_added(self):
        # Without interactions only the means are misled, by types that batches lack in training.
        world = draw(noise=0, interaction_sd=0)
        train = without_training(world, ("B", "x"), ("C", "z"))
        table = measure(world, oracle(world), train=train, baselines=True)
        error = table.groupby("method")["error"].max()
        assert error["least squares (given cell types)"] < 1e-10
        others = table[table["method"] == "mean of other contexts"]
        # B and C have no other type in common than y: nothing is predicted.
        assert others["correlation"].isna().sum() == 2
        assert others["error"][others["correlation"].notna()].max() < 1e-10
        assert error["mixed model (given cell types)"] < 0.1
        assert error["additive"] > 0.5
