"""Diagnostics of the random effects against the tables' tensors."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from scmedal_tools import tl
from scmedal_tools.tl._effects_diagnostics import _of_genes

LAYERS = ["encoder.1", "bottleneck", "decoder.0", "output"]
SPLIT = [np.arange(128), np.arange(128, 200), np.arange(200, 240)]


def train(fit, cells, parts=SPLIT, **kwargs):
    return fit(
        "SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": parts}, **kwargs
    )


@pytest.fixture(scope="module")
def model(fit, cells):
    """Model with unequal effects, so that no two statistics of them agree by chance."""
    model = train(fit, cells)
    generator = torch.Generator().manual_seed(0)
    for table in model.module.effect_tables.values():
        table.loc.data += 0.2 * torch.randn(table.loc.shape, generator=generator) ** 3
        table.rho.data += torch.randn(table.rho.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def paper(fit, cells):
    return train(fit, cells, model={"preset": "paper"})


def from_state(model, layer, kind):
    """Means, standard deviations and prior scale, from what is saved of the model."""
    state = {k: v.numpy().astype(float) for k, v in model.module.state_dict().items()}
    mean, rho, log_prior = (
        state[f"{layer}.{kind}.{name}"] for name in ("loc", "rho", "log_prior_sd")
    )
    return mean, 1e-5 + np.log1p(np.exp(rho)), np.exp(log_prior)


def lower_median(values):
    return np.quantile(values, 0.5, method="lower")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "paper"])
def test_values(request, name):
    model = request.getfixturevalue(name)
    tables = tl.effects_diagnostics(model).tables.drop("genes", errors="ignore")
    assert tables.index.names == ["layer", "kind"]
    for (layer, kind), row in tables.iterrows():
        mean, sd, prior = from_state(model, layer, kind)
        expected = {
            "prior_sd": prior,
            "posterior_sd": lower_median(sd),
            "posterior_to_prior": lower_median(sd / prior),
            "size": lower_median(np.abs(mean)),
            "signal_to_noise": np.sqrt(np.mean((mean / sd) ** 2)),
            "n_units": mean.shape[1],
        }
        started = {"default": (0.1, 0.05), "paper": (0.25, 7e-4)}[model.preset_]
        expected |= dict(zip(["start_prior_sd", "start_posterior_sd"], started, strict=True))
        assert set(expected) == set(tables.columns)
        for column, value in expected.items():
            assert row[column] == pytest.approx(value, rel=1e-4), (layer, kind, column)


@pytest.mark.slow
def test_values_of_the_effects_on_genes(model):
    row = tl.effects_diagnostics(model).tables.loc["genes", "effects"]
    effects = model.module.gene_effects.factors[0]
    generator, draws = torch.Generator().manual_seed(0), []
    for _ in range(300):
        draws.append(effects.draw(generator, spread=1.0)[1])
    drawn = torch.stack(draws)
    prior = (effects.scale.square() * effects.ratios.sum(0)).sqrt()
    alive = effects.probabilities[:, 0] < 0.5
    assert alive.any()
    assert row["size"] == pytest.approx(lower_median(effects.loc.abs().numpy()), rel=1e-4)
    assert row["prior_sd"] == pytest.approx(lower_median(prior[:, alive].numpy()), rel=1e-4)
    sd = drawn.std(0)[:, :, alive].numpy()
    assert row["posterior_sd"] == pytest.approx(lower_median(sd), rel=0.1)
    assert row["n_units"] == 60


def test_genes_whose_effects_do_not_matter_are_left_out(model):
    effects = deepcopy(model.module.gene_effects.factors[0])
    effects.probabilities[:20] = 0.0
    effects.probabilities[:20, 0] = 1.0
    effects.sd[:, :, :20] = 1e3
    prior = (effects.scale.square() * effects.ratios.sum(0)).sqrt()[:, 20:]
    row = _of_genes(effects)
    assert row["prior_sd"] == pytest.approx(lower_median(prior.numpy()), rel=1e-4)
    assert row["posterior_sd"] < 1e3
    assert row["n_units"] == 60


def test_a_row_for_each_layer_and_kind(model, paper):
    index = [(layer, kind) for layer in LAYERS for kind in ("slope", "bias")]
    index.append(("genes", "effects"))
    tables = tl.effects_diagnostics(model).tables
    assert sorted(tables.index) == sorted(index)
    assert tables["n_units"].to_dict()["output", "slope"] == 60
    everywhere = ["encoder.0", "encoder.1", "decoder.0", "decoder.1", "output"]
    index = [(layer, kind) for layer in everywhere for kind in ("slope", "bias")]
    assert sorted(tl.effects_diagnostics(paper).tables.index) == sorted(index)


def test_the_prior_is_learned_or_not(model, paper):
    tables = tl.effects_diagnostics(model).tables
    assert (tables["prior_sd"] != tables["start_prior_sd"]).all()
    tables = tl.effects_diagnostics(paper).tables
    np.testing.assert_allclose(tables["prior_sd"], tables["start_prior_sd"], rtol=1e-6)


class TestSwapGap:
    def test_is_of_the_test_cells(self, model):
        gap = tl.effects_diagnostics(model).swap_gap
        assert gap == model.get_swap_gap(indices=SPLIT[2])
        others = [model.get_swap_gap(indices=cells) for cells in (SPLIT[0], SPLIT[1], None)]
        assert gap not in others

    @pytest.mark.slow
    def test_else_of_the_validation_cells(self, fit, cells):
        model = train(fit, cells, [SPLIT[0], np.arange(128, 240), []])
        gap = tl.effects_diagnostics(model).swap_gap
        assert gap == model.get_swap_gap(indices=np.arange(128, 240))

    @pytest.mark.slow
    def test_else_of_all_cells(self, fit, cells):
        model = train(fit, cells, [np.arange(240), [], []], early_stopping=False)
        assert tl.effects_diagnostics(model).swap_gap == model.get_swap_gap()

    def test_of_the_cells_that_are_named(self, model, cells):
        rows = [3, 5, 8, 13, 21, 34]
        gap = tl.effects_diagnostics(model, indices=rows).swap_gap
        assert gap == model.get_swap_gap(indices=rows)
        other = cells[::3].copy()
        ours = tl.effects_diagnostics(model, other).swap_gap
        assert ours == model.get_swap_gap(other)
        both = tl.effects_diagnostics(model, other, rows).swap_gap
        assert both == model.get_swap_gap(other, rows)
        assert len({gap, ours, both}) == 3


def test_collapsed_effects(fit, cells):
    with pytest.warns(UserWarning, match="collapsed"):
        model = train(fit, cells, model={"n_states": 0}, plan_kwargs={"effects_lr": 0.0})
    diagnostics = tl.effects_diagnostics(model)
    assert diagnostics.swap_gap == 1
    assert (diagnostics.tables[["size", "signal_to_noise"]] == 0).all(axis=None)


def test_in_a_notebook(model):
    diagnostics = tl.effects_diagnostics(model)
    html = diagnostics._repr_html_()
    assert "encoder.1" in html
    assert f"{diagnostics.swap_gap:.4f}" in html


def test_untrained(build, adata):
    with pytest.raises(RuntimeError, match=r"not trained yet"):
        tl.effects_diagnostics(build("SCMEDAL_RE", adata))
