"""Axes of the latents: those of the expression that they predict."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

import scmedal_tools as smt
from scmedal_tools.model._re import expression_axes

KINDS = {"latent": "z", "content": "content"}


def predicted(latent, expression, cells=slice(None)):
    """What a linear model with an intercept, fitted to some cells, predicts of all cells."""
    design = np.column_stack([np.ones(len(latent)), latent]).astype(float)
    coefficients = np.linalg.lstsq(design[cells], expression[cells].astype(float), rcond=None)[0]
    return design @ coefficients


def own_latents(model, adata=None):
    """Latents in the network's own axes."""
    adata = model.adata if adata is None else adata
    batch = torch.as_tensor(model.batch_names.get_indexer(adata.obs["donor"]))
    with torch.no_grad():
        inferred = model.module.inference(torch.as_tensor(adata.X.toarray()), batch)
    return {kind: inferred[name].numpy() for kind, name in KINDS.items()}


def assert_axes_of_expression(model, kind):
    """Distances are those of the best linear prediction; training cells vary in sorted axes."""
    train = model.train_indices
    latent = model.get_latent_representation(kind=kind)
    expression = model.get_reconstruction(return_numpy=True)
    expected = predicted(own_latents(model)[kind], expression, train)
    np.testing.assert_allclose(pdist(latent), pdist(expected), rtol=1e-3, atol=1e-3)
    covariance = np.cov(latent[train].T.astype(float))
    variances = np.diag(covariance)
    assert (np.diff(variances) < 0).all()
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4 * variances[0])


class TestFunction:
    @pytest.fixture
    def latent(self):
        rng = np.random.default_rng(0)
        return rng.normal(size=(80, 4)) @ rng.normal(size=(4, 4)) + [5, -3, 0, 100]

    @pytest.fixture
    def expression(self, latent):
        rng = np.random.default_rng(1)
        noise = rng.normal(size=(80, 9))
        return np.tanh(0.02 * latent @ rng.normal(size=(4, 9))) + 0.1 * noise + 7

    @staticmethod
    def axes(latent, expression):
        latent, expression = (
            torch.as_tensor(x, dtype=torch.float32) for x in (latent, expression)
        )
        return expression_axes(latent, expression).numpy()

    def test_distances_are_those_of_the_prediction(self, latent, expression):
        axes = self.axes(latent, expression)
        assert axes.shape == (4, 4)
        expected = predicted(latent, expression)
        np.testing.assert_allclose(pdist(latent @ axes), pdist(expected), rtol=1e-3)

    def test_is_invertible(self, latent, expression):
        axes = self.axes(latent, expression)
        assert np.linalg.matrix_rank(axes) == 4
        np.testing.assert_allclose(latent @ axes @ np.linalg.inv(axes), latent, rtol=1e-3)

    def test_axes_are_the_principal_ones(self, latent, expression):
        moved = latent @ self.axes(latent, expression)
        expected = predicted(latent, expression)
        eigenvalues = np.linalg.eigvalsh(np.cov(expected.T))[::-1][:4]
        covariance = np.cov(moved.T)
        np.testing.assert_allclose(np.diag(covariance), eigenvalues, rtol=1e-3)
        np.testing.assert_allclose(covariance, np.diag(eigenvalues), atol=1e-4 * eigenvalues[0])

    def test_a_networks_axes_do_not_matter(self, latent, expression):
        other = latent @ np.random.default_rng(2).normal(size=(4, 4)) + 3
        moved, expected = (x @ self.axes(x, expression) for x in (other, latent))
        np.testing.assert_allclose(pdist(moved), pdist(expected), rtol=1e-3)


@pytest.fixture(scope="module")
def model(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


class TestModel:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_those_of_the_expression(self, model, kind):
        assert_axes_of_expression(model, kind)

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_an_invertible_map_of_the_networks(self, model, kind, fresh):
        axes = getattr(model.module, f"{kind}_axes").numpy()
        assert not np.allclose(axes, np.eye(4), atol=0.1)
        assert np.linalg.matrix_rank(axes) == 4
        for adata in (model.adata, fresh):
            latent = model.get_latent_representation(adata, kind=kind)
            np.testing.assert_allclose(
                latent, own_latents(model, adata)[kind] @ axes, rtol=1e-4, atol=1e-4
            )

    def test_serve_draws_too(self, model):
        draws = model.get_latent_representation(n_samples=2)
        (draw, _), axes = model._draw_effects(2), model.module.latent_axes.numpy()
        with model.module.effects_fixed_at(draw):
            expected = own_latents(model)["latent"] @ axes
        np.testing.assert_allclose(draws[0], expected, rtol=1e-4, atol=1e-4)

    def test_leave_the_reconstruction_alone(self, model):
        before = model.get_reconstruction()
        axes = model.module.latent_axes.clone()
        model.module.latent_axes.mul_(2)
        after, doubled = model.get_reconstruction(), model.get_latent_representation()
        model.module.latent_axes.copy_(axes)
        np.testing.assert_array_equal(after, before)
        np.testing.assert_allclose(doubled, 2 * model.get_latent_representation(), rtol=1e-5)

    @pytest.mark.parametrize("adata", [True, False])
    def test_are_saved(self, model, fresh, tmp_path, adata):
        model.save(tmp_path / "model")
        given = model.adata if adata else False
        loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", given, accelerator="cpu")
        for kind in KINDS:
            name = f"{kind}_axes"
            ours, expected = getattr(loaded.module, name), getattr(model.module, name)
            assert torch.equal(ours, expected)
            np.testing.assert_allclose(
                loaded.get_latent_representation(fresh.copy(), kind=kind),
                model.get_latent_representation(fresh.copy(), kind=kind),
                atol=1e-6,
            )

    def test_follow_a_later_training(self, fit, adata):
        model = fit("SCMEDAL_RE", adata)
        before = model.module.latent_axes.clone()
        model.train(max_epochs=2, batch_size=64, accelerator="cpu", enable_progress_bar=False)
        assert not torch.allclose(model.module.latent_axes, before, rtol=0.01)
        for kind in KINDS:
            assert_axes_of_expression(model, kind)

    def test_are_fitted_to_some_of_many_cells(self, fit, adata, monkeypatch):
        monkeypatch.setattr("scmedal_tools.model._re.CELLS_FOR_AXES", 50)
        model = fit("SCMEDAL_RE", adata)
        latent, expression = own_latents(model)["latent"], model.get_reconstruction().to_numpy()
        ours = pdist(model.get_latent_representation())
        all_cells = pdist(predicted(latent, expression, model.train_indices))
        assert not np.allclose(ours, all_cells, rtol=1e-3)
        assert np.corrcoef(ours, all_cells)[0, 1] > 0.95

    def test_papers_preset_keeps_the_networks(self, fit, adata):
        model = fit("SCMEDAL_RE", adata, model={"preset": "paper"})
        for kind in KINDS:
            assert torch.equal(getattr(model.module, f"{kind}_axes"), torch.eye(4))
            latent = model.get_latent_representation(kind=kind)
            np.testing.assert_allclose(latent, own_latents(model)[kind], rtol=1e-5, atol=1e-6)


class TestFew:
    """Fewer genes or training cells than axes: the map is square, if not of full rank."""

    def test_genes(self, fit, cells):
        model = fit("SCMEDAL_RE", cells[:, :3].copy())
        assert model.get_latent_representation().shape == (240, 4)

    @pytest.mark.parametrize("n_train", [40, 20])
    def test_training_cells(self, fit, adata, n_train):
        parts = np.split(np.random.default_rng(0).permutation(240), [n_train, 200])
        split = {"datasplitter_kwargs": {"external_indexing": parts}}
        model = fit("SCMEDAL_RE", adata, model={"n_latent": 50}, **split)
        assert model.get_latent_representation().shape == (240, 50)
