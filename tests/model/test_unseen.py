"""Cells of batches that the model was not trained on."""

import gc
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import numpy as np
import pytest
import torch

from scmedal_tools import tl
from scmedal_tools.model import SCMEDAL_RE


@pytest.fixture
def newcomers(fresh):
    """Every second cell is of one of two new donors."""
    donors = fresh.obs["donor"].astype(str).to_numpy()
    donors[::4], donors[2::4] = "new_1", "new_2"
    fresh.obs["donor"] = donors
    return fresh


@pytest.fixture
def is_new(newcomers):
    return newcomers.obs["donor"].str.startswith("new").to_numpy()


def test_are_refused_and_the_message_names_what_can_be_done(trained, newcomers):
    with pytest.raises(ValueError, match=r"2 of the levels(.|\n)*'population'(.|\n)*'prior'"):
        trained.get_latent_representation(newcomers)


def test_cells_of_known_batches_are_as_without_them(trained, newcomers, is_new):
    expected = trained.get_latent_representation(newcomers[~is_new].copy())
    ours = trained.get_latent_representation(newcomers, unseen_batch="population")
    np.testing.assert_allclose(ours[~is_new], expected, atol=1e-5)


def test_few_cells_that_are_not_trained_on_are_no_cause_for_a_warning(trained, fresh):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*fewer than 3 cells")
        trained.get_latent_representation(fresh[:2].copy())


def test_networks_without_random_effects_do_not_look_at_the_batch(fe, newcomers, is_new):
    ours = fe.get_latent_representation(newcomers, unseen_batch="population")
    newcomers.obs["donor"] = "donor_01"
    np.testing.assert_allclose(ours, fe.get_latent_representation(newcomers.copy()), atol=1e-6)


def test_population_has_no_effects(re, newcomers, is_new):
    """By hand: all tables at zero, the fixed effects of the genes' models alone."""
    ours = re.get_reconstruction(newcomers, unseen_batch="population", return_numpy=True)
    module = re.module
    x = torch.as_tensor(newcomers.X.toarray()[is_new])
    zeros = {name: torch.zeros_like(table.loc) for name, table in module.effect_tables.items()}
    anyone = torch.zeros(len(x), dtype=torch.long)
    with torch.no_grad():
        inferred = module.inference(x, anyone, draw=zeros)
        x_hat = module.decode(inferred["z"], anyone, draw=zeros)
    # What the content has of the batch is not known of an unseen one.
    state = module.gene_effects.state_of(inferred["content"], torch.full((len(x), 1), -1))
    effects = module.gene_effects
    fixed = effects.factors[0].fixed + effects.follows * effects.factors[0].fixed_correction
    expected = module.scaler.inverse(x_hat + fixed[state])
    np.testing.assert_allclose(ours[is_new], expected.numpy(), atol=1e-4)


def test_population_as_a_target_is_where_new_cells_are(re, newcomers, is_new):
    """Swapping the decoder only: the encoder has no effects for them either way."""
    options = {"unseen_batch": "population", "return_numpy": True}
    target = re.get_counterfactual_expression(newcomers, None, "population", **options)
    own = re.get_reconstruction(newcomers, **options)
    np.testing.assert_allclose(target[is_new], own[is_new], atol=1e-5)
    assert np.abs(target - own)[~is_new].max() > 1e-3


class TestPrior:
    def test_needs_draws(self, re, newcomers):
        with pytest.raises(ValueError, match="pass n_samples"):
            re.get_latent_representation(newcomers, unseen_batch="prior")

    def test_needs_random_effects(self, fe, newcomers):
        with pytest.raises(ValueError, match="no random effects"):
            fe.get_latent_representation(newcomers, unseen_batch="prior", n_samples=3)

    @pytest.fixture
    def certain(self, re):
        """Model that knows the effects of its own batches well."""
        state = {name: values.clone() for name, values in re.module.state_dict().items()}
        for table in re.module.effect_tables.values():
            table.set_posterior_sd(0.1 * table.prior_sd)
        re.module.gene_effects.factors[0].sizes *= 100
        yield re
        re.module.load_state_dict(state)

    @pytest.mark.slow
    def test_new_batches_vary_more_than_known_ones(self, certain, newcomers, is_new):
        """And one new batch differs from the other, all cells of it alike."""
        re = certain
        draws = re.get_reconstruction(
            newcomers, unseen_batch="prior", n_samples=240, return_mean=False, return_numpy=True
        )
        spread = draws.std(0).mean(1)
        assert spread[is_new].mean() > 1.5 * spread[~is_new].mean()
        population = re.get_reconstruction(
            newcomers,
            unseen_batch="population",
            n_samples=60,
            return_mean=False,
            return_numpy=True,
        )
        assert population.std(0).mean(1)[is_new].mean() < spread[is_new].mean() / 1.5
        deviations = draws - draws.mean(0)
        minibatches = re._minibatches(newcomers, None, None, None, "population")
        state = re._collect(minibatches, lambda tensors: re._state_of(tensors)[:, None])[:, 0]
        new = [(newcomers.obs["donor"] == name).to_numpy() for name in ("new_1", "new_2")]
        common = max(np.unique(state), key=lambda s: min((state[of] == s).sum() for of in new))
        of_donors = [deviations[:, of & (state == common)] for of in new]
        first, second, other = (
            x.ravel() for x in (of_donors[0][:, 0], of_donors[0][:, 1], of_donors[1][:, 0])
        )
        assert np.corrcoef(first, second)[0, 1] > 0.4
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2

    def test_draws_of_a_table_have_the_priors_scale(self, re):
        table = re.module.effect_tables["bottleneck.bias"]
        generator = torch.Generator().manual_seed(0)
        drawn = table.draw(generator, n_unseen=4_000)[len(table.loc) :]
        assert drawn.std().item() == pytest.approx(float(table.prior_sd), rel=0.05)


def test_a_model_without_data_takes_them(re, newcomers, tmp_path):
    expected = re.get_latent_representation(newcomers, unseen_batch="population")
    re.save(tmp_path / "model")
    loaded = SCMEDAL_RE.load(tmp_path / "model", adata=False, accelerator="cpu")
    ours = loaded.get_latent_representation(newcomers.copy(), unseen_batch="population")
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert list(loaded.batch_names) == list(re.batch_names)


def test_copies_of_cells_that_were_registered(re, newcomers, is_new):
    """A copy carries the registration of its original, which is not its own."""
    expected = re.get_latent_representation(newcomers, unseen_batch="population")
    part = newcomers[::2].copy()
    ours = re.get_latent_representation(part, unseen_batch="population")
    np.testing.assert_allclose(ours, expected[::2], atol=1e-5)
    renamed = re.adata[:20].copy()
    renamed.obs["donor"] = "somebody"
    assert re.get_latent_representation(renamed, unseen_batch="population").shape[0] == 20


def test_minibatches_of_ones_own_are_not_mapped(re):
    minibatches = re._minibatches(None, np.arange(5), None, None)
    with pytest.raises(ValueError, match="unseen_batch needs `adata`"):
        re.get_latent_representation(dataloader=minibatches, unseen_batch="population")


def test_other_methods_take_it(re, fec, newcomers):
    assert set(fec.predict(newcomers, unseen_batch="population")) <= set(fec.label_names)
    tl.embed(newcomers, re, unseen_batch="population")
    assert newcomers.obsm["X_scmedal_re"].shape[0] == newcomers.n_obs
    means = tl.counterfactual_means(re, newcomers, "donor_01", unseen_batch="population")
    assert {"new_1", "new_2"} <= set(means.obs["source"])


def test_what_is_not_offered(re, newcomers):
    with pytest.raises(ValueError, match="unseen_batch='mean' is not one of"):
        re.get_latent_representation(newcomers, unseen_batch="mean")


def test_batches_that_are_renamed_between_two_calls(re, fresh):
    known = re.get_latent_representation(fresh)
    fresh.obs["donor"] = "donor_02"
    latent = re.get_latent_representation(fresh)
    assert not np.allclose(latent, known, atol=1e-3)
    np.testing.assert_array_equal(re.get_latent_representation(fresh.copy()), latent)
    fresh.obs["donor"] = "new"
    latent = re.get_latent_representation(fresh, unseen_batch="population")
    fresh.obs["donor"] = "newer"
    again = re.get_latent_representation(fresh, unseen_batch="population")
    np.testing.assert_array_equal(again, latent)
    assert not np.allclose(latent, known, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("with_cells", [True, False])
def test_cells_of_many_files_do_not_stay_in_memory(trained, fresh, tmp_path, with_cells):
    trained.save(tmp_path / "model")
    given = trained.adata.copy() if with_cells else False
    model = type(trained).load(tmp_path / "model", given, accelerator="cpu")
    held = []
    for _ in range(3):
        cells = fresh.copy()
        model.get_latent_representation(cells)
        held.append(weakref.ref(cells))
        del cells
    gc.collect()
    # The last may be read on; a model without cells takes the first as its own.
    assert [cells() is None for cells in held] == [with_cells, True, False]


def test_threads_may_ask_for_cells_of_their_own(fe, fresh, monkeypatch):
    parts = [fresh[:40].copy(), fresh[40:].copy()]
    expected = [fe.get_latent_representation(part) for part in parts]
    both, make = Barrier(2, timeout=60), type(fe)._make_data_loader

    def make_when_both_are_registered(model, *args, **kwargs):
        both.wait()
        return make(model, *args, **kwargs)

    monkeypatch.setattr(type(fe), "_make_data_loader", make_when_both_are_registered)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(fe.get_latent_representation, parts))
    for latent, of_one in zip(found, expected, strict=True):
        np.testing.assert_array_equal(latent, of_one)


@pytest.mark.slow
def test_filters_of_warnings_stay_as_they_are_when_threads_take_turns(fe, fresh, monkeypatch):
    """The second would begin within the first, and end after it."""
    second_begins, first_ends = Event(), Event()
    transfer = type(fe.adata_manager).transfer_fields
    turns = []

    def transfer_in_turns(*args, **kwargs):
        turns.append(None)
        if len(turns) == 1:
            second_begins.wait(1)  # in vain, where one at a time is let in
        else:
            second_begins.set()
            assert first_ends.wait(60)
        return transfer(*args, **kwargs)

    def embed_and_tell(cells):
        fe.get_latent_representation(cells)
        first_ends.set()

    monkeypatch.setattr(type(fe.adata_manager), "transfer_fields", transfer_in_turns)
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(embed_and_tell, [fresh[:40].copy(), fresh[40:].copy()]))
    assert len(turns) == 2
    assert warnings.filters == before


@pytest.mark.slow
def test_cells_of_threads_that_ended_do_not_stay_in_memory(fe, fresh):
    held = []
    for _ in range(2):
        cells = fresh.copy()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(fe.get_latent_representation, cells).result()
        held.append(weakref.ref(cells))
        del cells
    fe.get_latent_representation(fresh.copy())
    gc.collect()
    assert [cells() for cells in held] == [None, None]


def test_cells_set_up_for_a_model_to_come_stay_set_up_for_it(trained, fresh, tmp_path):
    trained.save(tmp_path / "model")
    loaded = type(trained).load(tmp_path / "model", adata=False, accelerator="cpu")
    cells = fresh[fresh.obs["donor"] != "donor_01"].copy()
    setup = trained.registry["setup_args"] | {"batch_key": "donor"}
    type(trained).setup_anndata(cells, **setup)
    loaded.get_latent_representation(cells)
    own = type(trained)(cells, n_hidden=(8,), n_latent=2)
    assert list(own.batch_names) == ["donor_02", "donor_03", "donor_04"]
