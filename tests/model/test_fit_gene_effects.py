"""What follows the training of the network: axes, and effects on single genes."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scvi.train import SaveCheckpoint

from scmedal_tools._gene_model import (
    NETWORK_SHARE,
    GroupSums,
    fit_mixed_model,
    probability_of_following,
)
from scmedal_tools.model import SCMEDAL_RE

UNFINISHED = "The effects on single genes and the axes of the latents are not fitted"
N_STATES = 10
QUICK = {"max_epochs": 2, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def model(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


class Parts(NamedTuple):
    """Scaled expression, what the network makes of it, and where the cells belong."""

    x: np.ndarray
    network: np.ndarray
    population: np.ndarray
    batch: np.ndarray
    state: np.ndarray


def parts_of(model, cells) -> Parts:
    module = model.module
    x = torch.as_tensor(model.adata.X[cells].toarray())
    batch = torch.as_tensor(model.batch_names.get_indexer(model.adata.obs["donor"]))[cells]
    with torch.no_grad():
        inferred = module.inference(x, batch)
        network = module.decode(inferred["z"], batch[:, None])
        population = module.decode_in_population(inferred["content"])
        state = module.gene_effects.state_of(inferred["content"], batch[:, None])
    return Parts(*(x.numpy() for x in (inferred["x_scaled"], network, population, batch, state)))


def means_of(values, parts):
    """Means of groups, 0 of those without cells."""
    sums, sizes = np.zeros((4, N_STATES, values.shape[1])), np.zeros((4, N_STATES, 1))
    np.add.at(sums, (parts.batch, parts.state), values)
    np.add.at(sizes, (parts.batch, parts.state), 1)
    return sums / np.maximum(sizes, 1), sizes[:, :, 0]


def sums_of(means, sizes):
    sums = GroupSums(*means.shape)
    sums.sizes[:], sums.sums[:] = sizes, sizes[:, :, None] * means
    return sums


def noise_of(values, parts):
    """Standard deviations around the groups' means; that over all states counts as ten cells."""
    means, sizes = means_of(values.astype(float), parts)
    squares, rest = np.zeros(means.shape[1:]), values - means[parts.batch, parts.state]
    np.add.at(squares, parts.state, np.square(rest))
    freedom = (sizes.sum(0) - (sizes > 0).sum(0))[:, None]
    overall = squares.sum(0) / freedom.sum()
    return np.sqrt((squares + 10 * overall) / (freedom + 10))


def state_of(model):
    return {name: values.clone() for name, values in model.module.state_dict().items()}


class TestGroups:
    """Of the training cells, in the cells' own states."""

    @pytest.fixture(scope="class")
    def parts(self, model):
        return parts_of(model, np.sort(model.train_indices))

    def test_sizes(self, model, parts):
        _, sizes = means_of(parts.x, parts)
        np.testing.assert_array_equal(model.module.gene_effects.factors[0].sizes, sizes)

    def test_what_is_explained_is_what_the_network_misses_in_the_population(self, model, parts):
        """And what the content has of the batch, which is an effect of the batch too."""
        effects = model.module.gene_effects.factors[0]
        missed, sizes = means_of(parts.x - parts.population, parts)
        expected = np.where(sizes[:, :, None] > 0, missed + effects.content.numpy(), 0.0)
        np.testing.assert_allclose(effects.scale * effects.means, expected, atol=1e-4)
        assert effects.content.abs().max() > 1e-3

    def test_the_scale_is_the_noise_of_what_the_effects_are_of(self, model, parts):
        """A share of what the content has of the state's cells is theirs."""
        values = parts.x - 0.7 * parts.population
        effects = model.module.gene_effects.factors[0]
        np.testing.assert_allclose(effects.scale, noise_of(values, parts), rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    def test_in_given_states_it_is_that_of_the_expression(self, fit, cells):
        model = fit("SCMEDAL_RE", cells.copy(), {"states_key": "cell_type"})
        rows = np.sort(model.train_indices)
        adata = model.adata[rows]
        x = model.module.scaler(torch.as_tensor(adata.X.toarray())).numpy()
        batch = model.batch_names.get_indexer(adata.obs["donor"])
        parts = Parts(x, x, x, batch, adata.obs["cell_type"].cat.codes.to_numpy().astype(int))
        effects = model.module.gene_effects.factors[0]
        expected = noise_of(x, parts)[: effects.scale.shape[0]]
        np.testing.assert_allclose(effects.scale, expected, rtol=1e-4, atol=1e-4)


class TestGuess:
    @pytest.fixture(scope="class")
    def refitted(self, model):
        """Models without and with the guess, of the groups' means."""
        parts = parts_of(model, np.sort(model.train_indices))
        effects = model.module.gene_effects.factors[0]
        missed, sizes = means_of(parts.x - parts.population, parts)
        explained = missed + effects.content.numpy()
        added, _ = means_of(parts.network - parts.population, parts)
        scale, correlation = effects.scale.double().numpy(), effects.correlation.double()
        return [
            fit_mixed_model(sums_of(means, sizes), correlation, scale)
            for means in (explained, explained - NETWORK_SHARE * added)
        ]

    def test_corrections_are_what_it_changes(self, model, refitted):
        effects, (alone, following) = model.module.gene_effects.factors[0], refitted
        np.testing.assert_allclose(effects.loc, alone.loc, atol=1e-3)
        np.testing.assert_allclose(effects.correction, following.loc - alone.loc, atol=1e-3)
        changed = following.fixed - alone.fixed
        np.testing.assert_allclose(effects.fixed_correction, changed, atol=1e-3)
        assert effects.fixed_correction.abs().max() > 1e-3

    def test_is_judged_by_validation_cells(self, model, refitted):
        assert len(model.validation_indices)
        parts = parts_of(model, np.sort(model.validation_indices))
        effects = model.module.gene_effects
        missed, sizes = means_of(parts.x - parts.population, parts)
        added, _ = means_of(parts.network - parts.population, parts)
        explained = missed + effects.factors[0].content.numpy()
        expected = probability_of_following(
            *([fitted] for fitted in refitted),
            np.arange(4)[:, None],
            sums_of(explained, sizes),
            sums_of(added, sizes),
        )
        np.testing.assert_allclose(effects.follows, expected, atol=0.02)

    def test_is_not_followed_without_them(self, fit, adata):
        model = fit("SCMEDAL_RE", adata, train_size=1.0, early_stopping=False)
        assert not model.module.gene_effects.follows.any()


def test_reconstructions_have_them(model):
    cells = np.arange(0, 240, 7)
    parts, effects = parts_of(model, cells), model.module.gene_effects.factors[0]
    own = parts.batch, parts.state
    guessed = NETWORK_SHARE * (parts.network - parts.population)
    guessed += (effects.fixed_correction[parts.state] + effects.correction[own]).numpy()
    expected = parts.population + model.module.gene_effects.follows.numpy() * guessed
    expected += (effects.fixed[parts.state] + effects.loc[own] - effects.content[own]).numpy()
    expected = model.module.scaler.inverse(torch.as_tensor(expected))
    ours = model.get_reconstruction(indices=cells, return_numpy=True)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.slow
def test_a_later_training_fits_them_anew(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    before = model.module.gene_effects.factors[0].loc.clone()
    seen = []
    model.module.output.register_forward_pre_hook(
        lambda *_: seen.append(model.module.has_gene_effects)
    )
    model.train(max_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert not seen[0]
    assert model.module.has_gene_effects
    assert not torch.equal(model.module.gene_effects.factors[0].loc, before)


@pytest.mark.slow
def test_none_without_states_or_in_the_papers_preset(fit, adata):
    for settings in ({"n_states": 0}, {"preset": "paper"}):
        model = fit("SCMEDAL_RE", adata.copy(), model=settings)
        assert model.module.gene_effects is None
        assert not any(name.startswith("gene_effects") for name in model.module.state_dict())
        assert model.is_finished


def test_states_need_a_content(build, adata):
    with pytest.raises(ValueError, match="n_states and states_key need content_code=True"):
        build("SCMEDAL_RE", adata, preset="paper", n_states=3)
    with pytest.raises(ValueError, match="register without states_key"):
        build("SCMEDAL_RE", adata, {"states_key": "cell_type"}, preset="paper")


def test_draws_of_a_reconstruction_are_those_of_the_own_batch(model):
    own = (model.adata.obs["donor"] == "donor_03").to_numpy()
    options = {"indices": own, "n_samples": 3, "return_mean": False, "return_numpy": True}
    swapped = model.get_counterfactual_expression(transform_batch="donor_03", **options)
    reconstructed = model.get_reconstruction(**options)
    np.testing.assert_allclose(swapped, reconstructed, atol=1e-5)
    assert swapped.std(0).max() > 1e-3


@pytest.mark.slow
def test_effects_of_genes_alone_are_found(fit, raised):
    """A gene that one donor raises, with a network whose own effects do not move."""
    options = {"max_epochs": 8, "batch_size": 128}
    model = fit("SCMEDAL_RE", raised, plan_kwargs={"effects_lr": 0.0}, **options)
    donors = ["donor_01", "donor_02"]
    cells = np.flatnonzero(raised.obs["donor"] == "donor_01")
    swapped = model.get_counterfactual_expression(
        indices=cells, transform_batch=donors, return_numpy=True
    )
    shift = (swapped["donor_02"] - swapped["donor_01"]).mean(0)
    assert shift[7] == pytest.approx(1.0, abs=0.35)
    assert np.abs(np.delete(shift, 7)).max() < 0.5 * shift[7]


class TestFinish:
    @pytest.fixture
    def checkpoint(self, model, tmp_path):
        """The model as it was in the middle of its training."""
        model.save(tmp_path / "model")
        loaded = SCMEDAL_RE.load(tmp_path / "model", model.adata.copy(), accelerator="cpu")
        for name, values in loaded.module.state_dict().items():
            if name.startswith(("gene_effects", "expression_")):
                values.zero_()
        loaded.module.is_finished.fill_(False)
        return loaded

    def test_again_changes_no_bit(self, model):
        before = state_of(model)
        model.finish()
        for name, values in state_of(model).items():
            assert torch.equal(values, before[name]), name

    @pytest.mark.parametrize(
        "ask",
        [
            lambda model: model.get_counterfactual_expression(transform_batch="donor_01"),
            lambda model: model.get_batch_effects(n_samples=2, n_cells=20),
            lambda model: model.get_latent_representation(),
        ],
        ids=["counterfactual", "batch effects", "latent"],
    )
    def test_without_it_there_is_a_warning(self, checkpoint, model, ask):
        assert not checkpoint.is_finished
        with pytest.warns(UserWarning, match=UNFINISHED):
            ask(checkpoint)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", UNFINISHED)
            ask(model)

    def test_gives_the_finished_model(self, checkpoint, model):
        checkpoint.finish()
        assert checkpoint.is_finished
        expected = state_of(model)
        for name, values in state_of(checkpoint).items():
            torch.testing.assert_close(values, expected[name], rtol=1e-5, atol=1e-6)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", UNFINISHED)
            ours, theirs = (
                m.get_counterfactual_expression(transform_batch="donor_02", return_numpy=True)
                for m in (checkpoint, model)
            )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)

    @pytest.mark.slow
    def test_of_a_checkpoint_of_a_running_training(self, build, adata, tmp_path):
        """Nothing follows the last epoch of this one, so that it has the model's last weights."""
        model = build("SCMEDAL_RE", adata)
        saver = SaveCheckpoint(
            dirpath=tmp_path, monitor="selection_validation", save_top_k=-1, load_best_on_end=False
        )
        model.train(**QUICK, callbacks=[saver], enable_checkpointing=True, early_stopping=False)
        (last,) = tmp_path.glob("epoch=1-*")
        loaded = SCMEDAL_RE.load(last, adata.copy(), accelerator="cpu")
        assert not loaded.is_finished
        np.testing.assert_array_equal(loaded.train_indices, model.train_indices)
        np.testing.assert_array_equal(loaded.validation_indices, model.validation_indices)
        loaded.finish()
        for ask in (
            lambda model: model.get_batch_effects(n_cells=20).to_numpy(),
            lambda model: model.get_latent_representation(),
        ):
            np.testing.assert_allclose(ask(loaded), ask(model), rtol=1e-3, atol=1e-5)

    def test_needs_a_trained_network(self, build, adata):
        with pytest.raises(RuntimeError, match=r"Call `model\.train"):
            build("SCMEDAL_RE", adata).finish()

    def test_needs_the_training_cells(self, model, fresh, tmp_path):
        model.save(tmp_path / "model")
        for cells in (False, fresh):
            loaded = SCMEDAL_RE.load(tmp_path / "model", cells, accelerator="cpu")
            with pytest.raises(ValueError, match="cells that the model was trained on"):
                loaded.finish()

    def test_the_papers_network_has_nothing_to_finish(self, fit, adata):
        model = fit("SCMEDAL_RE", adata, model={"preset": "paper"})
        before = state_of(model)
        model.finish()
        assert all(torch.equal(x, before[name]) for name, x in state_of(model).items())
