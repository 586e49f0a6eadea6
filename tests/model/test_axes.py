"""Axes of the latents: the principal ones of the expression that the decoder makes of them."""

import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

import scmedal_tools as smt

KINDS = ("latent", "content")


def batch_codes(model, adata):
    return torch.as_tensor(model.batch_names.get_indexer(adata.obs["donor"]))


def network_latents(model, adata):
    """Latents in the network's own axes."""
    with torch.no_grad():
        inferred = model.module.inference(
            torch.as_tensor(adata.X.toarray()), batch_codes(model, adata)
        )
    return {"latent": inferred["z"].numpy(), "content": inferred["content"].numpy()}


@contextmanager
def network_alone(model):
    """Without the effects on single genes, which are no part of the latents."""
    model.module.is_finished.fill_(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The effects on single genes and the axes")
        yield
    model.module.is_finished.fill_(True)


def expression_of(model, kind, adata=None):
    """What the decoder makes of a latent: in the cell's batch, or with all effects at 0."""
    adata = model.adata if adata is None else adata
    if kind == "latent":
        with network_alone(model):
            return model.get_reconstruction(adata, return_numpy=True)
    module, codes = model.module, batch_codes(model, adata)
    content = torch.as_tensor(network_latents(model, adata)["content"])
    saved = {k: v.clone() for k, v in module.state_dict().items()}
    for table in module.effect_tables.values():
        table.loc.data.zero_()
    with torch.no_grad():
        x_hat = module.generative(module.express(content, codes, False), codes)["x_hat"]
    module.load_state_dict(saved)
    return module.scaler.inverse(x_hat).numpy()


def coordinates(model, expression):
    """Principal coordinates by sklearn, whose signs are its own."""
    with network_alone(model):
        reconstruction = model.get_reconstruction(indices=model.train_indices, return_numpy=True)
    fitted = PCA(4, svd_solver="full").fit(reconstruction.astype(float))
    return fitted.transform(expression.astype(float))


def assert_same_up_to_sign(ours, expected):
    signs = np.sign((ours * expected).sum(0))
    np.testing.assert_allclose(ours * signs, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def model(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


@pytest.mark.parametrize("kind", KINDS)
def test_are_principal_coordinates_of_the_expression(model, fresh, kind):
    for adata in (model.adata, fresh):
        expected = coordinates(model, expression_of(model, kind, adata))
        assert_same_up_to_sign(model.get_latent_representation(adata, kind=kind), expected)


def test_share_their_axes(model, fresh):
    """The difference of both latents is what the batch does to the expression."""
    latent, content = (model.get_latent_representation(fresh, kind=kind) for kind in KINDS)
    shift = expression_of(model, "latent", fresh) - expression_of(model, "content", fresh)
    axes = model.module.expression_axes.numpy()
    np.testing.assert_allclose(latent - content, shift @ axes, atol=1e-4)
    assert np.abs(latent - content).max() > 1e-3
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-5)


def test_content_is_the_same_in_every_batch_of_the_decoder(model):
    """The content's coordinates need no batch once it is encoded."""
    content = model.get_latent_representation(kind="content")
    decoder = [t for k, t in model.module.effect_tables.items() if not k.startswith("encoder")]
    before = [table.loc.detach().clone() for table in decoder]
    for table in decoder:
        table.loc.data.mul_(-3)
    after = model.get_latent_representation(kind="content")
    latent = model.get_latent_representation()
    for table, value in zip(decoder, before, strict=True):
        table.loc.data.copy_(value)
    np.testing.assert_array_equal(after, content)
    assert not np.allclose(latent, model.get_latent_representation(), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_serve_draws_too(model, kind):
    draws = model.get_latent_representation(n_samples=2, kind=kind)
    for ours, draw in zip(draws, model._draw_effects(2), strict=True):
        minibatches = model._minibatches(None, None, None, None)
        compute = partial(model._coordinates, kind=kind, draw=draw)
        expected = model._collect(minibatches, compute)
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert not np.allclose(draws[0], draws[1])


@pytest.mark.parametrize("adata", [True, False])
def test_are_saved(model, fresh, tmp_path, adata):
    model.save(tmp_path / "model")
    given = model.adata if adata else False
    loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", given, accelerator="cpu")
    for kind in KINDS:
        np.testing.assert_allclose(
            loaded.get_latent_representation(fresh.copy(), kind=kind),
            model.get_latent_representation(fresh.copy(), kind=kind),
            atol=1e-6,
        )


@pytest.mark.slow
def test_follow_a_later_training(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    before = model.module.expression_axes.clone()
    model.train(max_epochs=2, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert not torch.allclose(model.module.expression_axes, before, rtol=0.01)
    expected = coordinates(model, expression_of(model, "latent"))
    assert_same_up_to_sign(model.get_latent_representation(), expected)


@pytest.mark.slow
def test_are_fitted_to_some_of_many_cells(fit, adata, monkeypatch):
    monkeypatch.setattr("scmedal_tools.model._re.CELLS_FOR_AXES", 50)
    model = fit("SCMEDAL_RE", adata)
    ours = pdist(model.get_latent_representation())
    all_cells = pdist(coordinates(model, expression_of(model, "latent")))
    assert not np.allclose(ours, all_cells, rtol=1e-3)
    assert np.corrcoef(ours, all_cells)[0, 1] > 0.95


def test_papers_preset_keeps_the_networks(fit, adata):
    model = fit("SCMEDAL_RE", adata, model={"preset": "paper"})
    assert not model.module.expression_axes.any()
    for kind in KINDS:
        latent = model.get_latent_representation(kind=kind)
        expected = network_latents(model, model.adata)[kind]
        np.testing.assert_allclose(latent, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_kind_is_refused(model):
    with pytest.raises(ValueError, match="neither 'latent' nor 'content'"):
        model.get_latent_representation(kind="r")


class TestFew:
    """Fewer genes or training cells than axes: the last coordinates are 0."""

    @pytest.mark.slow
    def test_genes(self, fit, cells):
        model = fit("SCMEDAL_RE", cells[:, :3].copy())
        latent = model.get_latent_representation()
        assert latent.shape == (240, 4)
        assert latent.any(0).tolist() == [True, True, True, False]

    @pytest.mark.slow
    def test_training_cells(self, fit, adata):
        parts = np.split(np.random.default_rng(0).permutation(240), [20, 200])
        split = {"datasplitter_kwargs": {"external_indexing": parts}}
        model = fit("SCMEDAL_RE", adata, model={"n_latent": 50}, **split)
        latent = model.get_latent_representation()
        assert latent.shape == (240, 50)
        assert latent.any(0).tolist() == [True] * 20 + [False] * 30
