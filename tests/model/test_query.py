"""Effects of new batches, learned on top of a model that stays unchanged."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import scvi
import torch

import scmedal_tools as smt
from scmedal_tools._gene_model._equations import covariance_of
from scmedal_tools.model import SCMEDAL_RE

pytestmark = pytest.mark.slow

NEW = ["donor_05", "donor_06"]
QUICK = {"max_epochs": 15, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def donors():
    """Cells of six donors, of whom the last two are new; gene 7 is high in the last."""
    adata = smt.datasets.simulated(6, 60, 2, confounding=0.0)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    x = adata.X.toarray()
    x[(adata.obs["donor"] == NEW[1]).to_numpy(), 7] += 1.5
    adata.X = x
    return adata


@pytest.fixture(scope="module")
def known(donors):
    return donors[~donors.obs["donor"].isin(NEW)].copy()


class Mapped(NamedTuple):
    """A trained model, what it was before the new cells came, and the one that knows them."""

    reference: SCMEDAL_RE
    before: dict[str, torch.Tensor]
    query: SCMEDAL_RE


@pytest.fixture(scope="module")
def both(build, known, donors):
    """Of each preset, trained when it is first asked for."""

    @cache
    def both(preset):
        model = build("SCMEDAL_RE", known.copy(), preset=preset)
        model.train(**QUICK | {"max_epochs": 8, "batch_size": 64})
        before = state_of(model)
        query = SCMEDAL_RE.load_query_data(cells_of_new(donors), model)
        query.train(**QUICK)
        return Mapped(model, before, query)

    return both


@pytest.fixture(params=["default", "paper"])
def preset(request):
    return request.param


@pytest.fixture
def reference(both, preset):
    return both(preset).reference


@pytest.fixture
def mapped(both, preset):
    """Model of the new cells, which tests leave as it is."""
    return both(preset).query


def cells_of_new(donors):
    return donors[donors.obs["donor"].isin([*NEW, "donor_01"])].copy()


@pytest.fixture
def new_cells(donors):
    """Cells of both new donors and, so that they could be moved, of one that is known."""
    return cells_of_new(donors)


def state_of(model):
    return {name: values.clone() for name, values in model.module.state_dict().items()}


def test_everything_learned_before_keeps_its_bytes(reference, known, mapped):
    before, after = state_of(reference), state_of(mapped)
    for name, values in before.items():
        same = after[name][: len(values)] if values.ndim else after[name]
        assert torch.equal(same, values), name
    cells = known[::5].copy()
    for kind in ("latent", "content"):
        np.testing.assert_array_equal(
            mapped.get_latent_representation(cells, kind=kind),
            reference.get_latent_representation(cells.copy(), kind=kind),
        )
    np.testing.assert_array_equal(
        mapped.get_counterfactual_expression(cells, transform_batch="donor_02"),
        reference.get_counterfactual_expression(cells.copy(), transform_batch="donor_02"),
    )


def test_the_reference_itself_is_not_touched(both, preset):
    reference, before, _ = both(preset)
    for name, values in state_of(reference).items():
        assert torch.equal(values, before[name]), name
    assert list(reference.batch_names) == [f"donor_0{i}" for i in range(1, 5)]


def test_effects_of_the_new_batches_are_learned(mapped):
    assert list(mapped.batch_names) == [f"donor_0{i}" for i in range(1, 7)]
    for table in mapped.module.effect_tables.values():
        assert (table.loc[4:] != 0).any()
        assert (table.posterior_sd[4:] != table.prior_sd).any()


def test_new_cells_gain(mapped, new_cells):
    """Nearer to the cells than without any effect, which the training had not learned."""
    new = new_cells[new_cells.obs["donor"].isin(NEW)].copy()
    x = new.X
    own = mapped.get_reconstruction(new, return_numpy=True)
    without = mapped.get_counterfactual_expression(new, None, "population", return_numpy=True)
    assert np.square(x - own).sum() < 0.99 * np.square(x - without).sum()


class TestDefaultPreset:
    @pytest.fixture
    def preset(self):
        return "default"

    def test_a_raised_gene_is_found(self, mapped, new_cells):
        effects = mapped.get_batch_effects(n_samples=2)["effect"].unstack("batch")
        measured = new_cells.to_df().groupby(new_cells.obs["donor"], observed=True).mean().T
        of_gene = [table.loc[:, NEW[1]] - table.loc[:, NEW[0]] for table in (effects, measured)]
        gene = mapped.get_var_names()[7]
        assert of_gene[0][gene] == pytest.approx(of_gene[1][gene], abs=0.3)
        assert effects.loc[gene, NEW[1]] > 1

    def test_on_genes_in_closed_form(self, mapped, new_cells):
        """Of one gene and batch, by hand from the means of its cells in every state."""
        module, effects = mapped.module, mapped.module.gene_effects.factors[0]
        gene, batch = 7, 5
        cells = new_cells[new_cells.obs["donor"] == NEW[1]].copy()
        levels = torch.full((cells.n_obs, 1), batch)
        with torch.no_grad():
            inferred = module.inference(torch.as_tensor(cells.X), levels)
            population = module.decode_in_population(inferred["content"])
        state = module.gene_effects.state_of(inferred["content"], levels).numpy()
        sizes = np.bincount(state, minlength=len(effects.scale))

        def means_of(values):
            sums = np.bincount(state, values[:, gene].numpy(), minlength=len(effects.scale))
            return sums / np.maximum(sizes, 1) / scale

        scale = effects.scale[:, gene].numpy()
        seen = sizes > 0
        # What the content has of the batch is an effect of the batch too.
        means = means_of(inferred["x_scaled"] - population)
        means += effects.content[batch, :, gene].numpy() / scale
        fixed = (effects.fixed / effects.scale)[:, gene].numpy()
        expected = np.zeros(len(sizes))
        for i, weight in enumerate(effects.new_probabilities[gene].numpy()):
            covariance = covariance_of(i, effects.correlation.double()).numpy()
            variance = covariance[np.ix_(seen, seen)] + np.diag(1 / sizes[seen])
            gain = covariance[:, seen] @ np.linalg.inv(variance)
            expected += weight * (gain @ (means - fixed)[seen])
        np.testing.assert_allclose(effects.loc[batch, :, gene], scale * expected, atol=2e-3)

    def test_to_finish_again_changes_nothing(self, mapped):
        before = state_of(mapped)
        mapped.finish()
        for name, values in state_of(mapped).items():
            assert torch.equal(values, before[name]), name

    def test_survives_saving(self, mapped, new_cells, tmp_path):
        mapped.save(tmp_path / "query")
        loaded = SCMEDAL_RE.load(tmp_path / "query", new_cells, accelerator="cpu")
        np.testing.assert_array_equal(
            loaded.get_latent_representation(), mapped.get_latent_representation()
        )
        before = state_of(loaded)
        loaded.train(**QUICK | {"max_epochs": 3})
        for name, values in state_of(loaded).items():
            if values.ndim and values.shape[0] == 6:
                assert torch.equal(values[:4], before[name][:4]), name

    def test_from_a_folder(self, reference, new_cells, tmp_path):
        reference.save(tmp_path / "reference")
        query = SCMEDAL_RE.load_query_data(new_cells, tmp_path / "reference")
        assert list(query.batch_names[-2:]) == NEW

    def test_an_epoch_is_judged_by_the_network(self, reference, new_cells):
        """Whatever the effects on genes are: they are found afterwards."""
        histories = []
        for effect in (0.0, 1.0):
            query = SCMEDAL_RE.load_query_data(new_cells.copy(), reference)
            query.module.gene_effects.factors[0].loc.fill_(effect)
            scvi.settings.seed = 0
            query.train(validation_size=0.2, early_stopping=True, **QUICK | {"max_epochs": 3})
            histories.append(query.history["reconstruction_loss_validation"].to_numpy())
        np.testing.assert_array_equal(*histories)

    def test_adam_has_its_own_step(self, reference, new_cells):
        query = SCMEDAL_RE.load_query_data(new_cells, reference)
        query.train(plan_kwargs={"effects_optimizer": "adam"}, **QUICK | {"max_epochs": 1})
        assert query.trainer.lightning_module.effects_lr == 0.01

    def test_must_be_trained(self, reference, new_cells):
        query = SCMEDAL_RE.load_query_data(new_cells, reference)
        with pytest.raises(RuntimeError, match="not trained"):
            query.get_latent_representation()

    def test_what_is_refused(self, reference, mapped, known, new_cells):
        with pytest.raises(ValueError, match="no batch that the reference model does not know"):
            SCMEDAL_RE.load_query_data(known.copy(), reference)
        with pytest.raises(ValueError, match="itself made by load_query_data"):
            SCMEDAL_RE.load_query_data(new_cells, mapped)
        with pytest.raises(ValueError, match="genes that the model was trained on are missing"):
            SCMEDAL_RE.load_query_data(new_cells[:, :20].copy(), reference)
        query = SCMEDAL_RE.load_query_data(new_cells, reference)
        with pytest.raises(ValueError, match="weight_decay would move"):
            query.train(plan_kwargs={"weight_decay": 1e-3}, **QUICK)


def test_the_device_is_that_of_scvi_tools(both, new_cells):
    reference = both("default").reference
    query = SCMEDAL_RE.load_query_data(new_cells, reference, accelerator="cpu", device=1)
    assert query.device == torch.device("cpu")
    with pytest.raises(ValueError, match="Only a single device"):
        SCMEDAL_RE.load_query_data(new_cells, reference, accelerator="cpu", device="0,1")


def test_new_levels_of_a_type_that_cannot_be_sorted_with_the_others(fit, adata):
    adata.obs["number"] = adata.obs["donor"].cat.codes.astype(int)
    model = fit("SCMEDAL_RE", adata, {"batch_key": "number"})
    new = adata[:30].copy()
    new.obs["number"] = "new"
    with pytest.raises(ValueError, match=r"obs\['number'\].*cannot be sorted together .*str"):
        smt.model.SCMEDAL_RE.load_query_data(new, model)
