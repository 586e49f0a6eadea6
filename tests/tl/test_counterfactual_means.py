"""Group means against pandas on the full counterfactuals."""

from __future__ import annotations

import weakref

import anndata as ad
import numpy as np
import pytest
import scvi

from scmedal_tools import tl
from scmedal_tools.model import _inference, _swap

TARGETS = ["donor_02", "donor_04"]


@pytest.fixture(scope="module")
def model(cells, fit):
    return fit("SCMEDAL_RE", cells.copy(), max_epochs=5)


def by_pandas(model, columns, target):
    """Means of groups, and their reconstruction, from cells x genes."""
    groups = [model.adata.obs[column].astype(str) for column in columns]
    swapped = model.get_counterfactual_expression(transform_batch=target).groupby(groups).mean()
    return swapped, model.get_reconstruction().groupby(groups).mean()


class TestMeans:
    @pytest.mark.parametrize("labels_key", [None, "cell_type"])
    def test_equal_the_group_means(self, model, labels_key):
        means = tl.counterfactual_means(model, model.adata, TARGETS, labels_key=labels_key)
        columns = ["donor"] if labels_key is None else ["donor", labels_key]
        for target in TARGETS:
            swapped, reconstruction = by_pandas(model, columns, target)
            rows = means[means.obs["target"] == target]
            assert rows.n_obs == len(swapped)
            np.testing.assert_allclose(rows.layers["counterfactual"], swapped, atol=1e-5)
            np.testing.assert_allclose(rows.layers["reconstruction"], reconstruction, atol=1e-5)
            np.testing.assert_allclose(rows.X, swapped - reconstruction, atol=1e-5)
        assert np.abs(means.X).max() > 1e-3

    def test_rows_are_named_and_counted(self, model):
        means = tl.counterfactual_means(model, model.adata, TARGETS, labels_key="cell_type")
        sizes = model.adata.obs.groupby(["donor", "cell_type"], observed=True).size()
        assert means.obs_names.is_unique
        assert means.var_names.equals(model.adata.var_names)
        for name, row in means.obs.iterrows():
            assert name == f"{row['source']} -> {row['target']} ({row['cell_type']})"
            assert row["n_cells"] == sizes[row["source"], row["cell_type"]]
        without = tl.counterfactual_means(model, model.adata, "donor_02")
        assert list(without.obs_names) == [f"donor_0{i} -> donor_02" for i in range(1, 5)]
        assert "cell_type" not in without.obs

    def test_minibatches_do_not_matter(self, model, monkeypatch):
        whole = tl.counterfactual_means(model, model.adata, TARGETS, labels_key="cell_type")
        monkeypatch.setattr(_inference, "CELLS_PER_MINIBATCH", 37)
        monkeypatch.setattr(scvi.settings, "batch_size", 30)
        divided = tl.counterfactual_means(model, model.adata, TARGETS, labels_key="cell_type")
        np.testing.assert_allclose(divided.X, whole.X, atol=1e-5)
        assert divided.obs.equals(whole.obs)

    @pytest.mark.parametrize("n_samples", [None, 3])
    def test_cells_are_held_in_one_target_at_a_time(self, model, monkeypatch, n_samples):
        """Or in as many as make up ROWS cells, of which there are fewer here than in one."""
        monkeypatch.setattr(_swap, "ROWS", 1)
        alive, most = weakref.WeakSet(), []
        original = type(model)._swap

        def spy(self, *args, **kwargs):
            for values in original(self, *args, **kwargs):
                alive.add(Held(values))
                most.append(len(alive))
                yield values

        class Held:
            """Lives as long as the expression of a minibatch in a target."""

            def __init__(self, values):
                values.held = self

        monkeypatch.setattr(type(model), "_swap", spy)
        tl.counterfactual_means(
            model,
            model.adata,
            list(model.batch_names),
            n_samples=n_samples,
            interval=0.4,
            progress=False,
        )
        assert max(most) <= 2

    def test_targets_are_not_parsed_in_every_draw(self, model, monkeypatch):
        asked = []
        original = type(model)._targets

        def spy(self, targets):
            asked.append(targets)
            return original(self, targets)

        monkeypatch.setattr(type(model), "_targets", spy)
        tl.counterfactual_means(
            model, model.adata, TARGETS, n_samples=3, interval=0.4, progress=False
        )
        assert asked == 3 * TARGETS  # for the warning, for the means, and for all draws

    def test_own_batch_shifts_nothing(self, model):
        means = tl.counterfactual_means(model, model.adata, TARGETS)
        own = (means.obs["source"] == means.obs["target"]).to_numpy()
        assert own.sum() == 2
        np.testing.assert_allclose(means.X[own], 0, atol=1e-6)
        assert (np.abs(means.X[~own]).max(axis=1) > 1e-3).all()

    def test_of_some_cells_only(self, model):
        some = model.adata[model.adata.obs["donor"] == "donor_01"].copy()
        means = tl.counterfactual_means(model, some, TARGETS)
        everything = tl.counterfactual_means(model, model.adata, TARGETS)
        assert list(means.obs_names) == ["donor_01 -> donor_02", "donor_01 -> donor_04"]
        np.testing.assert_allclose(means.X, everything[means.obs_names].X, atol=1e-5)

    def test_swap_is_passed_on(self, model):
        means = tl.counterfactual_means(model, model.adata, "donor_02", swap="decoder")
        swapped = model.get_counterfactual_expression(transform_batch="donor_02", swap="decoder")
        cells = (model.adata.obs["donor"] == "donor_01").to_numpy()
        expected = swapped[cells].mean()
        result = means["donor_01 -> donor_02"].layers["counterfactual"][0]
        np.testing.assert_allclose(result, expected, atol=1e-5)
        content = tl.counterfactual_means(model, model.adata, "donor_02")
        assert np.abs(content.X - means.X).max() > 1e-4

    def test_a_target_named_twice_is_there_once(self, model):
        means = tl.counterfactual_means(model, model.adata, ["donor_02", "donor_02"])
        assert means.n_obs == 4


class TestUncertainty:
    @pytest.fixture(scope="class")
    def means(self, model):
        targets = [*TARGETS, "population"]
        return tl.counterfactual_means(
            model, model.adata, targets, n_samples=12, interval=0.8, progress=False
        )

    @pytest.mark.slow
    def test_is_of_differences_within_a_draw(self, model, means):
        cells = (model.adata.obs["donor"] == "donor_01").to_numpy()
        options = {"indices": cells, "n_samples": 12, "return_mean": False, "return_numpy": True}
        for target in (*TARGETS, "population"):
            swapped = model.get_counterfactual_expression(transform_batch=target, **options)
            draws = (swapped - model.get_reconstruction(**options)).mean(1)
            ours = means[f"donor_01 -> {target}"]
            np.testing.assert_allclose(ours.layers["sd"][0], draws.std(0, ddof=1), atol=1e-5)
            for name, q in (("lower", 0.1), ("upper", 0.9)):
                expected = np.quantile(draws, q, axis=0, method="weibull")
                np.testing.assert_allclose(ours.layers[name][0], expected, atol=1e-5)

    def test_of_the_own_batch_is_none(self, means):
        own = (means.obs["source"] == means.obs["target"]).to_numpy()
        for name in ("sd", "lower", "upper"):
            np.testing.assert_allclose(means.layers[name][own], 0, atol=1e-5)
        assert np.median(means.layers["sd"][~own]) > 1e-3

    def test_the_means_are_those_without_draws(self, model, means):
        expected = tl.counterfactual_means(model, model.adata, [*TARGETS, "population"])
        np.testing.assert_array_equal(means.X, expected.X)
        assert not {"sd", "lower", "upper"} & set(expected.layers)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_samples": 18}, "needs at least 19 draws"),
            ({"n_samples": 9, "interval": 90}, "outside its range"),
        ],
    )
    def test_errors(self, model, arguments, message):
        with pytest.raises(ValueError, match=message):
            tl.counterfactual_means(model, model.adata, "donor_02", **arguments)


def test_survives_a_file(model, tmp_path):
    means = tl.counterfactual_means(model, model.adata, TARGETS, labels_key="cell_type")
    means.write_h5ad(tmp_path / "means.h5ad")
    read = ad.read_h5ad(tmp_path / "means.h5ad")
    assert (read.obs.astype(str) == means.obs.astype(str)).all(axis=None)
    for layer in ("reconstruction", "counterfactual"):
        np.testing.assert_array_equal(read.layers[layer], means.layers[layer])
    np.testing.assert_array_equal(read.X, means.X)


@pytest.mark.slow
def test_batches_may_be_numbers(cells, fit):
    adata = cells.copy()
    adata.obs["lane"] = adata.obs["donor"].cat.codes.astype(int) + 1
    model = fit("SCMEDAL_RE", adata, {"batch_key": "lane"})
    one = tl.counterfactual_means(model, adata, 2)
    assert list(one.obs_names) == [f"{i} -> 2" for i in range(1, 5)]
    assert tl.counterfactual_means(model, adata, [2, 3]).n_obs == 8


class TestErrors:
    def test_unknown_target(self, model):
        with pytest.raises(ValueError, match=r"'donor_9'.*Choose from donor_01"):
            tl.counterfactual_means(model, model.adata, ["donor_02", "donor_9"])

    def test_no_target(self, model):
        with pytest.raises(ValueError, match="names no batch"):
            tl.counterfactual_means(model, model.adata, [])

    def test_unknown_column(self, model):
        with pytest.raises(ValueError, match=r"labels_key='type' is not a column.*'cell_type'"):
            tl.counterfactual_means(model, model.adata, "donor_02", labels_key="type")

    def test_gaps_in_the_column(self, model):
        adata = model.adata.copy()
        adata.obs.loc[adata.obs_names[:3], "cell_type"] = np.nan
        with pytest.raises(ValueError, match="labels_key='cell_type' is missing in 3 of 240"):
            tl.counterfactual_means(model, adata, "donor_02", labels_key="cell_type")


class TestEnsemble:
    @pytest.fixture(scope="class")
    def models(self, model, fit):
        other = fit("SCMEDAL_RE", model.adata.copy(), max_epochs=8)
        return [model, other]

    @pytest.mark.slow
    def test_means_are_averaged_and_draws_pooled(self, models):
        adata, options = models[0].adata, {"n_samples": 6, "interval": 0.5, "progress": False}
        pooled = tl.counterfactual_means(models, adata, "donor_02", **options)
        single = [
            tl.counterfactual_means(
                m, adata.copy(), "donor_02", n_samples=3, interval=0.5, progress=False
            )
            for m in models
        ]
        np.testing.assert_allclose(pooled.X, (single[0].X + single[1].X) / 2, atol=1e-5)
        between = np.square(single[0].X - single[1].X) / 4
        within = (np.square(single[0].layers["sd"]) + np.square(single[1].layers["sd"])) / 2
        # As far as means of three draws allow.
        assert np.square(pooled.layers["sd"]).mean() == pytest.approx(
            (between + within).mean(), rel=0.35
        )

    def test_one_model_is_an_ensemble_too(self, model):
        options = {"n_samples": 3, "interval": 0.5, "progress": False}
        listed = tl.counterfactual_means([model], model.adata, "donor_02", **options)
        alone = tl.counterfactual_means(model, model.adata, "donor_02", **options)
        for name in ("sd", "lower", "upper"):
            np.testing.assert_array_equal(listed.layers[name], alone.layers[name])

    @pytest.mark.slow
    def test_models_of_other_cells_are_refused(self, model, fit, cells):
        fewer = cells[cells.obs["donor"] != "donor_04"].copy()
        with pytest.raises(ValueError, match="differ in genes or batches"):
            tl.counterfactual_means([model, fit("SCMEDAL_RE", fewer)], model.adata, "donor_02")
        with pytest.raises(ValueError, match="There is no model"):
            tl.counterfactual_means([], model.adata, "donor_02")
