"""Random effects of several factors, which add up."""

import numpy as np
import pytest
import torch
from scvi import REGISTRY_KEYS

import scmedal_tools as smt

pytestmark = pytest.mark.slow

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
SETUP = {"random_effect_keys": ["protocol"]}
RAISED = 11


@pytest.fixture(scope="module")
def crossed():
    """Cells of five donors, each measured with both protocols; v3 raises one gene by 1."""
    adata = smt.datasets.simulated(5, 60, 2, effect_scale=0.0, confounding=0.0)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    v3 = np.random.default_rng(0).random(adata.n_obs) < 0.5
    adata.obs["protocol"] = np.where(v3, "v3", "v2")
    x = adata.X.toarray()
    x[v3, RAISED] += 1.0
    adata.X = x
    return adata


@pytest.fixture(scope="module")
def model(fit, crossed):
    return fit("SCMEDAL_RE", crossed.copy(), SETUP, max_epochs=10, batch_size=128)


def shift(model, target, **options):
    """Mean over cells of [counterfactual - reconstruction] of each gene."""
    options |= {"return_numpy": True}
    swapped = model.get_counterfactual_expression(transform_batch=target, **options)
    return (swapped - model.get_reconstruction(return_numpy=True)).mean(0)


def test_the_levels_of_both_are_known(model):
    assert {key: list(names) for key, names in model.factors.items()} == {
        "donor": [f"donor_0{i}" for i in range(1, 6)],
        "protocol": ["v2", "v3"],
    }


def test_one_factor_is_changed_and_the_other_kept(model, crossed):
    """Half of the cells are v3 already, so that a switch to it moves the mean by a half."""
    moved = shift(model, {"protocol": "v3"})
    assert moved.argmax() == RAISED
    assert moved[RAISED] == pytest.approx(0.5, abs=0.2)
    assert np.delete(np.abs(moved), RAISED).max() < 0.2
    of_donor = shift(model, "donor_02")
    assert abs(of_donor[RAISED]) < 0.1
    both = shift(model, {"donor": "donor_02", "protocol": "v3"})
    np.testing.assert_allclose(both, moved + of_donor, atol=0.1)


def test_means_of_one_factors_targets(model):
    means = smt.tl.counterfactual_means(model, model.adata, {"protocol": "v3"})
    assert set(means.obs["target"]) == {"protocol=v3"}
    assert (means.X.argmax(1) == RAISED).all()


def test_the_own_levels_give_the_reconstruction(model, crossed):
    own = model.get_reconstruction(return_numpy=True)
    named = model.get_counterfactual_expression(
        transform_batch=["donor_01", {"protocol": "v2"}], return_numpy=True
    )
    assert list(named) == ["donor_01", "protocol=v2"]
    for name, cells in (
        ("donor_01", crossed.obs["donor"] == "donor_01"),
        ("protocol=v2", crossed.obs["protocol"] == "v2"),
    ):
        np.testing.assert_allclose(named[name][cells], own[cells], atol=1e-5)
        assert np.abs(named[name] - own).max() > 1e-3


def test_population_has_effects_of_neither(model):
    population, of_protocol, of_both = (
        model.get_counterfactual_expression(transform_batch=target, return_numpy=True)
        for target in (
            "population",
            {"protocol": "population"},
            {"protocol": "population", "donor": "population"},
        )
    )
    np.testing.assert_allclose(population, of_both, atol=1e-6)
    assert np.abs(population - of_protocol).max() > 1e-3


def test_effects_of_each_factor(model):
    effects = model.get_batch_effects(factor="protocol", n_samples=2)
    assert effects.index.names == ["protocol", "gene"]
    difference = effects["effect"].loc["v3"] - effects["effect"].loc["v2"]
    assert difference.idxmax() == model.get_var_names()[RAISED]
    assert difference.max() == pytest.approx(1, abs=0.3)
    layer = model.get_batch_effects(layer="bottleneck", factor="protocol")
    table = model.module.bottleneck.crossed[0]["slope"]
    np.testing.assert_array_equal(layer["slope"], table.loc.detach().numpy().ravel())
    assert model.get_batch_effects(n_samples=2).index.names == ["batch", "gene"]
    with pytest.raises(ValueError, match="factor='tissue' is not a factor of the model"):
        model.get_batch_effects(factor="tissue")


def test_diagnostics_name_the_factor(model):
    tables = smt.tl.effects_diagnostics(model).tables
    assert ("bottleneck (protocol)", "slope") in tables.index
    assert ("genes (protocol)", "effects") in tables.index
    assert len(tables) == 2 * len(tables.loc[[i for i in tables.index if "(" not in i[0]]])


def test_tools_know_the_factors(model):
    components = smt.tl.variance_components(model, n_samples=40, n_cells=50, progress=False)
    assert list(components)[:4] == ["content", "batch", "protocol", "residual"]
    raised = model.gene_names[RAISED]
    assert components["protocol_share"].idxmax() == raised
    # Half of the cells are 1 higher: a variance of 1/4, and what two levels leave open.
    of_gene = model.module.gene_effects.factors[1]
    known, open_ = (x[:, :, RAISED].square().mean() for x in (of_gene.loc, of_gene.sd))
    scale = model.module.scaler.scale.square()
    assert float(known * scale) == pytest.approx(0.25, abs=0.1)
    found = components.loc[raised, "protocol"]
    assert found == pytest.approx(float((known + open_) * scale), rel=0.35)
    options = {"n_samples": 2, "n_cells": 50, "progress": False}
    distances = smt.tl.batch_similarity(model, factor="protocol", **options)
    assert list(distances) == ["v2", "v3"]
    assert list(smt.tl.batch_similarity(model, **options)) == list(model.batch_names)


def test_intervals_and_unseen_levels(model, crossed):
    cells = crossed[::9].copy()
    drawn = model.get_counterfactual_expression(
        cells, transform_batch={"protocol": "v3"}, n_samples=4, interval=0.5
    )
    assert (drawn["sd"].to_numpy() > 0).all()
    cells.obs["protocol"] = "v4"
    with pytest.raises(ValueError, match=r"1 of the levels of adata\.obs\['protocol'\]: v4"):
        model.get_reconstruction(cells)
    known = model.get_reconstruction(cells, unseen_batch="population", return_numpy=True)
    prior = model.get_reconstruction(
        cells, unseen_batch="prior", n_samples=4, return_mean=False, return_numpy=True
    )
    assert np.isfinite(known).all()
    assert (prior.std(0) > 0).all()


def test_new_levels_of_both_factors_are_learned(model, crossed):
    cells = crossed[::2].copy()
    cells.obs["protocol"] = cells.obs["protocol"].replace({"v3": "v4"})
    cells.obs["donor"] = "newcomer"
    query = smt.model.SCMEDAL_RE.load_query_data(cells, model)
    query.train(max_epochs=10, accelerator="cpu", enable_progress_bar=False)
    assert list(query.factors["protocol"]) == ["v2", "v3", "v4"]
    effects = query.get_batch_effects(factor="protocol", n_samples=2)["effect"]
    assert effects.loc["v4"].argmax() == RAISED
    for name, values in model.module.state_dict().items():
        same = query.module.state_dict()[name]
        assert (same[: len(values)] if values.ndim else same).equal(values), name


def test_a_new_protocol_keeps_what_its_donors_share(fit, crossed):
    """Both are new: what two new donors have in common is of their protocol."""
    newcomers = crossed.obs["donor"].isin(["donor_04", "donor_05"]).to_numpy()
    reference = fit("SCMEDAL_RE", crossed[~newcomers].copy(), SETUP, max_epochs=10, batch_size=128)
    cells = crossed[newcomers].copy()
    cells.obs["protocol"] = "v4"
    x = cells.X.copy()
    x[:, 3] += 1.5
    cells.X = x
    query = smt.model.SCMEDAL_RE.load_query_data(cells, reference)
    query.train(max_epochs=5, accelerator="cpu", enable_progress_bar=False)
    tables = query.module.gene_effects.factors
    of_donors, of_protocol = (table.loc[-1, :, 3].mean().item() for table in tables)
    assert of_protocol > 2 * abs(of_donors)
    assert of_protocol > 0.3


def test_nested_factors_are_warned_of(build, crossed):
    adata = crossed.copy()
    adata.obs["site"] = np.where(adata.obs["donor"].astype(str) < "donor_03", "north", "south")
    with pytest.warns(UserWarning, match="Every 'donor' has a single 'site'"):
        build("SCMEDAL_RE", adata, {"random_effect_keys": ["site"]})


def test_survives_saving(model, crossed, tmp_path):
    model.save(tmp_path / "model")
    loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", crossed.copy(), accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation()
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_all_models_take_them(build, crossed, name, preset):
    """The adversary tells both: in the beginning it knows of neither."""
    setup = SETUP | {"labels_key": "cell_type"}
    model = build(name, crossed.copy(), setup, preset=preset)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    if model.module.adversary is not None:
        entropy = float(model.module.batch_entropy)
        shares = [crossed.obs[key].value_counts(normalize=True) for key in ("donor", "protocol")]
        assert entropy == pytest.approx(sum(-(p * np.log(p)).sum() for p in shares), rel=0.02)
        assert model.history["adversary_ce_train"].iloc[0, 0] < 1.5 * entropy
    assert np.isfinite(model.get_latent_representation()).all()


class TestErrors:
    def refused(self, build, crossed, keys, message):
        with pytest.raises(ValueError, match=message):
            build("SCMEDAL_RE", crossed, {"random_effect_keys": keys})

    def test_not_a_list(self, build, crossed):
        self.refused(build, crossed, "protocol", r"write \['protocol'\]")

    def test_the_batch_again(self, build, crossed):
        self.refused(build, crossed, ["donor"], "other than batch_key")

    def test_too_many(self, build, crossed):
        keys = ["protocol", "cell_type", "condition"]
        self.refused(build, crossed, keys, "one or two columns")

    def test_not_there(self, build, crossed):
        self.refused(build, crossed, ["tissue"], "random_effect_keys='tissue' is not a column")

    def test_the_same_under_another_name(self, build, crossed):
        adata = crossed.copy()
        adata.obs["site"] = adata.obs["donor"].astype(str) + "x"
        self.refused(build, adata, ["site"], "divide the cells identically")

    def test_unknown_targets(self, model):
        with pytest.raises(ValueError, match="'tissue' is not a factor of the model"):
            model.get_counterfactual_expression(transform_batch={"tissue": "x"})
        with pytest.raises(ValueError, match=r"'v9' is not a level of 'protocol'.*v2, v3"):
            model.get_counterfactual_expression(transform_batch={"protocol": "v9"})


def test_levels_of_cells_reach_the_network(model, crossed):
    tensors = next(iter(model._minibatches(None, np.arange(40), None, None)))
    ours = model.module._get_inference_input(tensors)["levels"]
    levels = [
        torch.as_tensor(names.get_indexer(crossed.obs[key][:40]))
        for key, names in model.factors.items()
    ]
    assert torch.equal(ours, torch.stack(levels, dim=1))


def test_minibatches_without_a_factor_are_refused(model):
    minibatches = list(model._minibatches(None, np.arange(40), None, None))
    for tensors in minibatches:
        del tensors[REGISTRY_KEYS.CAT_COVS_KEY]
    with pytest.raises(ValueError, match="do not fit 2 factor"):
        model.get_reconstruction(dataloader=minibatches)
    with pytest.raises(ValueError, match="do not fit 2 factor"):
        model.get_counterfactual_expression(dataloader=minibatches, transform_batch="donor_02")
