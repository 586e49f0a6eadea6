"""Effects on single genes are fitted when the network is trained."""

import numpy as np
import pytest
import torch

import scmedal_tools as smt

DONORS = ["donor_01", "donor_02", "donor_03", "donor_04"]


@pytest.fixture(scope="module")
def model(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


def parts_of(model, cells):
    """Scaled expression, the network's in own batch and population, batch and state."""
    module = model.module
    x = torch.as_tensor(model.adata.X[cells].toarray())
    batch = torch.as_tensor(model.batch_names.get_indexer(model.adata.obs["donor"]))[cells]
    with torch.no_grad():
        inferred = module.inference(x, batch)
        own = module.decode(inferred["z"], batch)
        population = module.decode_in_population(inferred["content"])
        state = module.gene_effects.state_of(inferred["content"])
    return (*(part.numpy() for part in (inferred["x_scaled"], own, population, batch, state)),)


def mixed(model, cells):
    """Both predictions of the cells, without and with the network's effects."""
    _, own, population, batch, state = parts_of(model, cells)
    effects = model.module.gene_effects
    return [
        base + (fitted.common[state] + fitted.loc[batch, state]).numpy()
        for base, fitted in (
            (population, effects.without_network[0]),
            (own, effects.with_network[0]),
        )
    ]


def test_groups_are_those_of_the_training_cells(model):
    _, _, _, batch, state = parts_of(model, np.sort(model.train_indices))
    sizes = np.zeros((4, 10))
    np.add.at(sizes, (batch, state), 1)
    for fitted in (
        *model.module.gene_effects.without_network,
        *model.module.gene_effects.with_network,
    ):
        np.testing.assert_array_equal(fitted.sizes, sizes)


def test_the_weight_predicts_the_validation_cells_best(model):
    cells = np.sort(model.validation_indices)
    x = parts_of(model, cells)[0]
    without, with_network = mixed(model, cells)
    weights = np.linspace(0, 1, 1001)
    errors = [np.square(x - without - w * (with_network - without)).sum() for w in weights]
    ours = float(model.module.gene_effects.network_weight)
    assert ours == pytest.approx(weights[np.argmin(errors)], abs=2e-3)


def test_reconstructions_have_them(model):
    cells = np.arange(0, 240, 7)
    without, with_network = mixed(model, cells)
    weight = float(model.module.gene_effects.network_weight)
    expected = model.module.scaler.inverse(
        torch.as_tensor(without + weight * (with_network - without))
    )
    ours = model.get_reconstruction(indices=cells, return_numpy=True)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_without_validation_cells_the_networks_effects_count_in_full(fit, adata):
    model = fit("SCMEDAL_RE", adata, train_size=1.0, early_stopping=False)
    assert model.module.gene_effects.network_weight == 1


def test_a_later_training_fits_them_anew(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    before = model.module.gene_effects.with_network[0].loc.clone()
    seen = []
    model.module.output.register_forward_pre_hook(
        lambda *_: seen.append(model.module.has_gene_effects)
    )
    model.train(max_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert not seen[0]
    assert model.module.has_gene_effects
    assert not torch.equal(model.module.gene_effects.with_network[0].loc, before)


def test_none_without_states_or_in_the_papers_preset(fit, adata):
    for settings in ({"n_states": 0}, {"preset": "paper"}):
        model = fit("SCMEDAL_RE", adata.copy(), model=settings)
        assert model.module.gene_effects is None
        assert not any(name.startswith("gene_effects") for name in model.module.state_dict())


def test_states_need_a_content(build, adata):
    with pytest.raises(ValueError, match="n_states needs content_code=True"):
        build("SCMEDAL_RE", adata, preset="paper", n_states=3)


def test_draws_of_a_reconstruction_are_those_of_the_own_batch(model):
    own = (model.adata.obs["donor"] == "donor_03").to_numpy()
    options = {"indices": own, "n_samples": 3, "return_mean": False, "return_numpy": True}
    swapped = model.get_counterfactual_expression(transform_batch="donor_03", **options)
    reconstructed = model.get_reconstruction(**options)
    np.testing.assert_allclose(swapped, reconstructed, atol=1e-5)
    assert swapped.std(0).max() > 1e-3


def test_effects_of_genes_alone_are_found(fit, raised):
    """A gene that one donor raises, with a network whose own effects do not move."""
    model = fit("SCMEDAL_RE", raised, plan_kwargs={"effects_lr": 0.0}, max_epochs=20)
    donors = ["donor_01", "donor_02"]
    cells = np.flatnonzero(raised.obs["donor"] == "donor_01")
    swapped = model.get_counterfactual_expression(
        indices=cells, transform_batch=donors, return_numpy=True
    )
    shift = (swapped["donor_02"] - swapped["donor_01"]).mean(0)
    assert shift[7] == pytest.approx(1.0, abs=0.35)
    assert np.abs(np.delete(shift, 7)).max() < 0.5 * shift[7]


def test_draws_are_as_far_off_as_validation_cells(fit):
    """Where training cells are of one kind and validation cells of another, draws spread more."""
    adata = smt.datasets.simulated(n_donors=5, n_genes=60, n_cell_types=2)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    parts = np.split(np.random.default_rng(0).permutation(adata.n_obs), [adata.n_obs // 2])
    split = {"datasplitter_kwargs": {"external_indexing": [*parts, np.array([], int)]}}
    alike = fit("SCMEDAL_RE", adata.copy(), **split, max_epochs=10)
    x = adata.X.toarray()
    donor = adata.obs["donor"].cat.codes.to_numpy()
    shift = np.random.default_rng(1).exponential(size=(5, adata.n_vars))
    x[parts[1]] += shift[donor[parts[1]]]
    adata.X = x
    differing = fit("SCMEDAL_RE", adata, **split, max_epochs=10)
    dispersion = [float(m.module.gene_effects.dispersion) for m in (alike, differing)]
    assert 1 <= dispersion[0] < 2.5
    assert 5 < dispersion[1] <= 10
