"""Tables of what batches do."""

import numpy as np
import pytest
from scipy.stats import norm

import scmedal_tools as smt
from scmedal_tools.model import _effects, _swap, _targets

DONORS = ["donor_01", "donor_02", "donor_03", "donor_04"]


def assert_consistent(table):
    """Of every row: the chances are chances, and say the same as mean and spread."""
    assert np.isfinite(table).all(axis=None)
    effect, sd, z, lfsr, p_nonzero = (table[name].to_numpy() for name in table)
    np.testing.assert_allclose(z[sd > 0], (effect / sd)[sd > 0], rtol=1e-5, atol=1e-6)
    assert (z[sd == 0] == 0).all()
    for chance in (lfsr, p_nonzero):
        assert chance.min() >= -1e-6
        assert chance.max() <= 1 + 1e-6
    # The sign is wrong at least where there is no effect, and else for at most half of the rest.
    assert (lfsr >= 1 - p_nonzero - 1e-6).all()
    assert (lfsr <= 1 - p_nonzero / 2 + 1e-6).all()


class TestLayers:
    @pytest.mark.parametrize("layer", ["encoder.1", "bottleneck", "decoder.0", "output"])
    def test_means_and_standard_deviations(self, re, layer):
        table = re.get_batch_effects(layer=layer)
        state = {k: v.numpy() for k, v in re.module.state_dict().items()}
        assert list(table.columns) == ["slope", "slope_sd", "bias", "bias_sd"]
        for kind in ("slope", "bias"):
            mean, rho = (state[f"{layer}.{kind}.{name}"] for name in ("loc", "rho"))
            for i, donor in enumerate(DONORS):
                of_donor = table.loc[donor]
                np.testing.assert_allclose(of_donor[kind], mean[i], rtol=1e-5)
                sd = 1e-5 + np.log1p(np.exp(rho[i]))
                np.testing.assert_allclose(of_donor[f"{kind}_sd"], sd, rtol=1e-4)

    def test_units_of_the_output_are_genes(self, re):
        units = re.get_batch_effects(layer="output").loc["donor_03"].index
        assert list(units) == list(re.adata.var_names)

    @pytest.mark.parametrize("layer", ["encoder.0", "content", ""])
    def test_other_layers_are_refused(self, re, layer):
        with pytest.raises(
            ValueError, match=r"no random effects. Choose from 'genes', 'encoder.1'"
        ):
            re.get_batch_effects(layer=layer)

    def test_a_batch_is_not_taken_for_a_layer(self, re):
        with pytest.raises(TypeError, match="positional"):
            re.get_batch_effects("donor_01")


class TestGenes:
    @pytest.fixture(scope="class")
    def table(self, re):
        return re.get_batch_effects(n_samples=20)

    def test_are_differences_to_the_population(self, re, table):
        """Of all training cells, as there are fewer than asked for."""
        targets = [*DONORS, "population"]
        swapped = re.get_counterfactual_expression(
            indices=re.train_indices, transform_batch=targets, return_numpy=True
        )
        for donor in DONORS:
            expected = (swapped[donor] - swapped["population"]).mean(0)
            np.testing.assert_allclose(table.loc[donor, "effect"], expected, atol=1e-5)
            assert list(table.loc[donor].index) == list(re.adata.var_names)

    def test_columns(self, table):
        assert list(table.columns) == ["effect", "sd", "z", "lfsr", "p_nonzero"]

    @pytest.fixture
    def sure_of_the_network(self, re):
        """The closed form takes the network's effects at their means, which draws do not."""
        tables = re.module.effect_tables.values()
        before = [table.rho.detach().clone() for table in tables]
        for table in tables:
            table.rho.data.fill_(-50)
        yield re
        for table, rho in zip(tables, before, strict=True):
            table.rho.data.copy_(rho)

    @pytest.mark.slow
    def test_spread_as_the_draws(self, sure_of_the_network, table):
        re = sure_of_the_network
        draws = re.get_counterfactual_expression(
            indices=re.train_indices,
            transform_batch=["donor_03", "population"],
            n_samples=150,
            return_mean=False,
            return_numpy=True,
        )
        drawn = (draws["donor_03"] - draws["population"]).mean(1)
        ours = table.loc["donor_03"]
        sd = ours["sd"].to_numpy()
        np.testing.assert_allclose(sd, drawn.std(0, ddof=1), rtol=0.25, atol=0.1 * sd.max())
        wrong = np.minimum((drawn <= 1e-9).mean(0), (drawn >= -1e-9).mean(0))
        np.testing.assert_allclose(ours["lfsr"], wrong, atol=0.12)

    def test_their_columns_agree(self, table):
        assert_consistent(table)

    @pytest.mark.slow
    def test_the_sign_of_a_large_effect_is_sure(self, fit):
        adata = smt.datasets.simulated(12, 60, 2, confounding=0.0)
        smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
        table = fit("SCMEDAL_RE", adata).get_batch_effects(n_samples=2)
        sure = table["z"].abs() > 3
        assert sure.sum() > 5
        assert (table.loc[sure, "lfsr"] < 0.02).all()
        assert (table.loc[sure, "p_nonzero"] > 0.98).all()

    def test_of_some_cells(self, re, table):
        some = re.get_batch_effects(n_samples=2, n_cells=30)
        other = re.get_batch_effects(n_samples=2, n_cells=30, seed=1)
        assert not np.allclose(some["effect"], table["effect"], atol=1e-4)
        assert not np.allclose(some["effect"], other["effect"], atol=1e-4)

    def test_of_the_papers_preset(self, fit, adata):
        model = fit("SCMEDAL_RE", adata, model={"preset": "paper"})
        table = model.get_batch_effects(n_samples=2)
        assert table.shape == (4 * adata.n_vars, 5)
        assert_consistent(table)
        # Its effects have no mass at zero.
        np.testing.assert_allclose(table["p_nonzero"], 1, atol=1e-6)
        expected = norm.sf(table["z"].abs())
        np.testing.assert_allclose(table["lfsr"], expected, atol=1e-5)

    def test_one_draw_is_too_few(self, re):
        with pytest.raises(ValueError, match="n_samples=1 gives no standard deviation"):
            re.get_batch_effects(n_samples=1)


def test_needs_training(build, adata):
    with pytest.raises(RuntimeError, match="train"):
        build("SCMEDAL_RE", adata).get_batch_effects()


@pytest.mark.slow
def test_names_the_gene_that_a_donor_raises(fit, raised):
    model = fit("SCMEDAL_RE", raised, max_epochs=8, batch_size=128)
    table = model.get_batch_effects(n_samples=10)
    gene = "donor_02", raised.var_names[7]
    assert table["effect"].idxmax() == table["z"].abs().idxmax() == gene
    # Its z is 2.5, a little more or less with the version of PyTorch.
    sure = table[(table.index == gene) | (table["z"].abs() > 2.5)]
    assert (sure["lfsr"] < 0.02).all()
    assert (sure["p_nonzero"] > 0.98).all()


@pytest.mark.slow
class TestManyBatches:
    """So many that one call of the network for each of them and each draw would take minutes."""

    @pytest.fixture(scope="class", params=["default", "paper"])
    def model(self, request, fit, cells):
        adata = cells[np.arange(600) % 240].copy()
        adata.obs_names_make_unique()
        adata.obs["donor"] = [f"donor_{i}" for i in np.arange(600) % 300]
        return fit("SCMEDAL_RE", adata, model={"preset": request.param}, max_epochs=1)

    def test_are_decoded_together(self, model, monkeypatch):
        sizes, decode = [], model.module.decode

        def counted(z, *args, **kwargs):
            sizes.append(len(z))
            return decode(z, *args, **kwargs)

        monkeypatch.setattr(model.module, "decode", counted)
        together = model.get_batch_effects(n_samples=3, n_cells=10)
        n_calls = len(sizes)
        assert n_calls < 40
        assert max(sizes) <= _targets.ROWS
        # Each batch, cell and draw once, and not all batches for each of them.
        assert sum(sizes) <= (300 + 2) * 10 * (3 + 1)
        for module in (_swap, _effects):
            monkeypatch.setattr(module, "ROWS", 1)
        alone = model.get_batch_effects(n_samples=3, n_cells=10)
        assert len(sizes) - n_calls >= 300
        for column in ("effect", "sd"):
            np.testing.assert_allclose(together[column], alone[column], rtol=1e-3, atol=1e-5)
