"""Fixed effects: no batch in the input, an adversary, no random effects."""

import numpy as np
import pytest


@pytest.fixture
def relabelled(fe, fresh):
    """The same cells, each said to be of another donor."""
    other = fresh.copy()
    other.obs["donor"] = other.obs["donor"].cat.rename_categories(
        dict(zip(fe.batch_names, np.roll(fe.batch_names, 1), strict=True))
    )
    assert (other.obs["donor"].astype(str) != fresh.obs["donor"].astype(str)).all()
    return other


@pytest.mark.parametrize("verb", ["get_latent_representation", "get_corrected_expression"])
def test_the_recorded_batch_is_not_read(fe, fresh, relabelled, verb):
    found = getattr(fe, verb)(fresh)
    np.testing.assert_array_equal(getattr(fe, verb)(relabelled), found)


def test_cells_are_reconstructed_in_their_own_batch(fe, fresh, relabelled):
    own, other = fe.get_reconstruction(fresh), fe.get_reconstruction(relabelled)
    assert np.abs(own - other).to_numpy().max() > 1e-3


def test_the_papers_reconstruction_has_no_batch(fit, adata):
    model = fit("SCMEDAL_FE", adata, model={"preset": "paper"})
    corrected = model.get_corrected_expression(return_numpy=True)
    np.testing.assert_array_equal(model.get_reconstruction(return_numpy=True), corrected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
def test_a_batch_without_training_cells_is_reconstructed_like_the_average(fit, adata, name):
    late = (adata.obs["donor"] == "donor_04").to_numpy().nonzero()[0]
    known = np.setdiff1d(np.arange(adata.n_obs), late)
    split = {"external_indexing": [known[:150], known[150:], late]}
    with pytest.warns(UserWarning, match=r"have no training cells: donor_04"):
        model = fit(name, adata, datasplitter_kwargs=split, max_epochs=5)
    own = model.get_reconstruction(indices=late, return_numpy=True)
    corrected = model.get_corrected_expression(indices=late, return_numpy=True)
    if name == "SCMEDAL_FE":
        np.testing.assert_allclose(own, corrected, atol=1e-5)
    seen = np.abs(
        model.get_reconstruction(indices=known) - model.get_corrected_expression(indices=known)
    )
    assert seen.to_numpy().max() > 1e-3


def test_correction_by_random_effects_is_that_of_the_population(trained_models, fresh):
    model = trained_models["SCMEDAL_RE"]
    corrected = model.get_corrected_expression(fresh, gene_list=["gene_0003"])
    expected = model.get_counterfactual_expression(
        fresh, transform_batch="population", gene_list=["gene_0003"]
    )
    assert corrected.equals(expected)


@pytest.mark.slow
def test_a_batch_of_that_name_is_not_the_population(fit, adata):
    named = adata.copy()
    donors = {"donor_02": "population"}
    named.obs["donor"] = named.obs["donor"].cat.rename_categories(donors)
    expected = fit("SCMEDAL_RE", adata)
    with pytest.warns(
        UserWarning, match="A level of 'donor' is called 'population'.*Rename the level"
    ):
        found = fit("SCMEDAL_RE", named)
    corrected = (model.get_corrected_expression(return_numpy=True) for model in (found, expected))
    np.testing.assert_allclose(*corrected, atol=1e-5)
    swapped = (
        model.get_counterfactual_expression(transform_batch=name, return_numpy=True)
        for model, name in ((found, "population"), (expected, "donor_02"))
    )
    np.testing.assert_allclose(*swapped, atol=1e-5)


@pytest.mark.slow
class TestCorrection:
    """A gene that one donor expresses more, by as much in all types."""

    SHIFT, GENE = 2.0, "gene_shifted"

    @pytest.fixture(scope="class")
    def corrected(self, fit, cells):
        adata = cells.copy()
        adata.X = adata.X.toarray()
        adata.var_names = [self.GENE, *adata.var_names[1:]]
        adata.X[adata.obs["donor"] == "donor_02", 0] += self.SHIFT
        common = {"max_epochs": 60, "early_stopping": False, "plan_kwargs": {"lr": 5e-3}}
        model = fit("SCMEDAL_FE", adata, model={"input_dropout": 0.1}, **common)
        return model, adata

    def difference(self, table, adata):
        of_donor = adata.obs["donor"].to_numpy() == "donor_02"
        return table[self.GENE][of_donor].mean() - table[self.GENE][~of_donor].mean()

    def test_takes_the_shift_out(self, corrected):
        model, adata = corrected
        kept = self.difference(model.get_reconstruction(), adata)
        left = self.difference(model.get_corrected_expression(), adata)
        assert kept > 0.75 * self.SHIFT
        assert abs(left) < 0.35 * self.SHIFT

    def test_some_genes_and_cells(self, corrected):
        model, _ = corrected
        whole = model.get_corrected_expression()
        part = model.get_corrected_expression(indices=[5, 3], gene_list=self.GENE)
        assert list(part.columns) == [self.GENE]
        np.testing.assert_allclose(part, whole.iloc[[5, 3]][[self.GENE]], atol=1e-5)
        as_array = model.get_corrected_expression(return_numpy=True)
        np.testing.assert_array_equal(as_array, whole)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC"])
@pytest.mark.parametrize("verb", ["get_latent_representation", "get_reconstruction"])
def test_there_are_no_random_effects_to_draw(trained_models, name, verb):
    with pytest.raises(ValueError, match=f"{name} has no random effects to draw"):
        getattr(trained_models[name], verb)(n_samples=3)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC"])
def test_plain_autoencoder(fit, labelled, name):
    setup = {"labels_key": "partly_labelled"}
    model = fit(name, labelled.copy(), setup, {"adversary_weight": 0})
    assert model.module.adversary is None
    assert "adversary_ce_train" not in model.history
    assert model.get_latent_representation().shape == (240, 4)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["batch", "tied"])
def test_the_adversary_is_heeded(fit, adata, decoder):
    """With a large weight the latent tells the adversary less than without its gradient."""
    if decoder == "batch":  # which leaves little of the batch in the latent by itself
        of_donors = np.random.default_rng(1).normal(size=(4, adata.n_vars))
        x = adata.X.toarray() + of_donors[adata.obs["donor"].cat.codes]
        adata.X = (x - x.min(0)).astype(np.float32)
    plan = {"lr": 5e-3, "adversary_lr": 5e-3}
    common = {"max_epochs": 30, "early_stopping": False, "plan_kwargs": plan}
    ignored, heeded = (
        fit(
            "SCMEDAL_FE",
            adata.copy(),
            model={"decoder": decoder, "adversary_weight": weight},
            **common,
        )
        for weight in (1e-6, 200.0)
    )
    ignored, heeded = (m.history["adversary_ce_train"].iloc[-1].item() for m in (ignored, heeded))
    assert heeded > ignored + 0.2


def test_summary(fe):
    assert "SCMEDAL_FE, preset 'default': 60 genes, 4 batches, n_hidden (16, 8)" in str(
        fe._model_summary_string
    )


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"])
class TestArguments:
    def test_unknown_preset(self, build, labelled, name):
        setup = {"labels_key": "partly_labelled"}
        with pytest.raises(ValueError, match="preset='aml' is not one of 'default'"):
            build(name, labelled.copy(), setup, preset="aml")

    def test_unknown_setting(self, build, labelled, name):
        setup = {"labels_key": "partly_labelled"}
        with pytest.raises(TypeError, match=rf"{name} takes no 'dropout'.*adversary_weight"):
            build(name, labelled.copy(), setup, dropout=0.1)
