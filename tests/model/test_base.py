"""What holds for every model: training, latents and reconstructions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from scvi.model.base import UnsupervisedTrainingMixin

from scmedal_tools.model import _base, _inference

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
SETUP = {"labels_key": "cell_type"}
TERMS = ["reconstruction_loss", "mse", "adversary_ce"]
LOSS_TERMS = {
    "SCMEDAL_FE": TERMS,
    "SCMEDAL_FEC": [*TERMS, "label_ce"],
    "SCMEDAL_RE": [*TERMS, "kl_global"],
}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


class TestTraining:
    def test_history_has_every_term_for_training_and_validation(self, trained):
        terms = LOSS_TERMS[type(trained).__name__]
        names = {f"{term}_{part}" for term in terms for part in ("train", "validation")}
        names |= {"train_loss", "validation_loss", "selection_validation"}
        assert names <= trained.history.keys()
        for name in names:
            values = trained.history[name].to_numpy(dtype=float)
            assert len(values) == 2
            assert np.isfinite(values).all()

    def test_weighted_contributions_add_up_to_the_loss(self, trained):
        for part in ("train", "validation"):
            names = [name for name in trained.history if name.startswith("weighted_")]
            terms = [trained.history[name] for name in names if name.endswith(f"_{part}")]
            assert len(terms) == len(LOSS_TERMS[type(trained).__name__]) - 1  # mse is no term
            total = sum(term.to_numpy(dtype=float) for term in terms)
            close(total, trained.history[f"{part}_loss"].to_numpy(dtype=float))

    def test_contributions_are_terms_times_the_weights_of_the_preset(self, fit, adata):
        history = fit("SCMEDAL_RE", adata, model={"preset": "paper"}).history
        weights = {"reconstruction_loss": 110, "kl_per_table": 1e-5, "batch_ce": 0.1}
        for term, weight in weights.items():
            name = term.removesuffix("_loss").partition("_per")[0].removesuffix("_ce")
            contribution = history[f"weighted_{name}_train"].to_numpy(dtype=float)
            close(contribution, weight * history[f"{term}_train"].to_numpy(dtype=float))

    @pytest.mark.slow
    @pytest.mark.parametrize("weight", [0.0, 2.0])
    def test_history_has_the_batch_classifier_if_there_is_one(self, fit, adata, weight):
        model = fit("SCMEDAL_RE", adata, model={"batch_weight": weight})
        assert (model.module.batch_classifier is None) == (weight == 0)
        found = {name for name in model.history if name.startswith("batch_ce")}
        assert found == ({"batch_ce_train", "batch_ce_validation"} if weight else set())
        for name in found:
            assert np.isfinite(model.history[name].to_numpy(dtype=float)).all()

    @pytest.mark.parametrize("name", MODELS)
    def test_given_split_is_used(self, fit, adata, name):
        parts = np.split(np.random.default_rng(0).permutation(240), [100, 160])
        model = fit(name, adata, SETUP, datasplitter_kwargs={"external_indexing": parts})
        np.testing.assert_array_equal(model.train_indices, parts[0])
        np.testing.assert_array_equal(model.validation_indices, parts[1])
        np.testing.assert_array_equal(model.test_indices, parts[2])

    @pytest.mark.parametrize(
        "split",
        [
            {"train_size": 1},
            {"validation_size": 0},
            {"datasplitter_kwargs": {"external_indexing": [np.arange(240), [], []]}},
        ],
    )
    def test_early_stopping_needs_validation_cells(self, fit, adata, split):
        with pytest.raises(ValueError, match=r"validation cells.*`early_stopping=False`"):
            fit("SCMEDAL_FE", adata, early_stopping=True, **split)

    @pytest.mark.parametrize(
        "split",
        [
            {"train_size": 1.0},
            {"datasplitter_kwargs": {"external_indexing": [np.arange(240), [], []]}},
        ],
    )
    def test_without_early_stopping_all_cells_may_train(self, fit, adata, split):
        model = fit("SCMEDAL_FE", adata, early_stopping=False, **split)
        assert len(model.train_indices) == 240
        assert len(model.history["train_loss"]) == 2
        assert model.best_epoch_ is None

    @pytest.mark.parametrize(
        ("preset", "cells_seen", "epochs"),
        [("default", 240 * 37, 37), ("default", 1, 10), ("default", 1e9, 100), ("paper", 1, 500)],
    )
    def test_number_of_epochs(self, build, adata, monkeypatch, preset, cells_seen, epochs):
        asked = {}

        def train(model, **arguments):
            asked.update(arguments)
            model.trainer = SimpleNamespace(stopped_in=None)

        monkeypatch.setattr(UnsupervisedTrainingMixin, "train", train)
        monkeypatch.setattr(_base, "CELLS_SEEN", cells_seen)
        model = build("SCMEDAL_FE", adata, preset=preset)
        model.train()
        assert asked["max_epochs"] == epochs
        model.train(max_epochs=3, batch_size=17, early_stopping=False, precision=64)
        given = {"max_epochs": 3, "batch_size": 17, "early_stopping": False, "precision": 64}
        assert given.items() <= asked.items()

    def test_precision_reaches_lightning(self, fit, adata):
        model = fit("SCMEDAL_RE", adata, precision="bf16-mixed")
        assert model.trainer.precision == "bf16-mixed"
        assert np.isfinite(model.get_latent_representation()).all()

    @pytest.mark.parametrize("name", MODELS)
    def test_the_papers_preset_trains(self, fit, adata, name):
        model = fit(name, adata, SETUP, {"preset": "paper"})
        assert np.isfinite(model.get_reconstruction(return_numpy=True)).all()
        assert model.best_epoch_ is None


class TestStorage:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", MODELS)
    def test_dense_sparse_and_layers_give_the_same(self, fit, cells, name):
        forms = {
            "csr_matrix": cells.X,
            "csr_array": sp.csr_array(cells.X),
            "csc_matrix": cells.X.tocsc(),
            "dense": cells.X.toarray(),
            "float64": cells.X.toarray().astype(np.float64),
        }
        results = {}
        for form, x in forms.items():
            adata = cells.copy()
            adata.X = x
            results[form] = fit(name, adata, SETUP).get_latent_representation()
        adata = cells.copy()
        adata.layers["lognorm"], adata.X = adata.X.copy(), adata.layers["counts"]
        model = fit(name, adata, SETUP | {"layer": "lognorm"})
        results["layer"] = model.get_latent_representation()
        for result in results.values():
            close(result, results["csr_matrix"])


class TestLatent:
    def test_shape(self, trained):
        latent = trained.get_latent_representation()
        assert latent.shape == (240, 4)
        assert np.isfinite(latent).all()
        assert latent.std(0).min() > 0

    def test_minibatches_do_not_matter(self, trained):
        whole = trained.get_latent_representation(batch_size=240)
        close(trained.get_latent_representation(batch_size=7), whole)

    @pytest.mark.parametrize(("setting", "first"), [(128, 200), (50, 50), (2000, 240)])
    def test_the_users_setting_is_the_default(self, trained, monkeypatch, setting, first):
        monkeypatch.setattr(_inference, "CELLS_PER_MINIBATCH", 200)
        monkeypatch.setattr(scvi.settings, "batch_size", setting)
        assert len(next(iter(trained._minibatches(None, None, None, None)))["X"]) == first

    def test_the_default_of_scvi_is_known(self):
        assert scvi.settings.batch_size == _inference.SCVI_DEFAULT

    @pytest.mark.parametrize("indices", [[5, 3, 200], np.arange(240) % 7 == 0])
    def test_indices_and_masks(self, trained, indices):
        expected = trained.get_latent_representation()[indices]
        close(trained.get_latent_representation(indices=indices), expected)

    def test_other_cells(self, trained, fresh):
        expected = trained.get_latent_representation()[::3]
        close(trained.get_latent_representation(fresh), expected)
        close(trained.get_latent_representation(fresh[:20]), expected[:20])

    def test_dataloader(self, trained, fresh):
        expected = trained.get_latent_representation(indices=[4, 9, 2])
        minibatches = trained._make_data_loader(trained.adata, indices=[4, 9, 2], batch_size=2)
        close(trained.get_latent_representation(dataloader=minibatches), expected)
        with pytest.raises(ValueError, match="`dataloader` replaces `adata`"):
            trained.get_latent_representation(fresh, dataloader=minibatches)

    def test_untrained(self, build, adata):
        with pytest.raises(RuntimeError, match=r"not trained yet. Call `model.train\(\)`"):
            build("SCMEDAL_FE", adata).get_latent_representation()


class TestReconstruction:
    def test_table(self, trained):
        table = trained.get_reconstruction(indices=[5, 3])
        assert isinstance(table, pd.DataFrame)
        assert list(table.index) == list(trained.adata.obs_names[[5, 3]])
        assert list(table.columns) == list(trained.adata.var_names)
        values = trained.get_reconstruction(indices=[5, 3], return_numpy=True)
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(table, values)

    def test_some_genes(self, trained):
        genes = list(trained.adata.var_names[[7, 2, 50]])
        table = trained.get_reconstruction(gene_list=genes)
        pd.testing.assert_frame_equal(table, trained.get_reconstruction()[genes])

    def test_unknown_genes(self, trained):
        with pytest.raises(ValueError, match=r"2 of the genes .* not in the model: XYZ, ABC\."):
            trained.get_reconstruction(gene_list=["XYZ", trained.adata.var_names[0], "ABC"])

    def test_other_cells_and_dataloader(self, trained, fresh):
        expected = trained.get_reconstruction().iloc[::3]
        pd.testing.assert_frame_equal(trained.get_reconstruction(fresh), expected, rtol=1e-4)
        minibatches = trained._make_data_loader(fresh, batch_size=50)
        close(trained.get_reconstruction(dataloader=minibatches), expected)

    @pytest.mark.slow
    def test_is_in_the_units_of_the_input(self, fit, adata):
        adata.X = adata.X.toarray() / np.log(2)  # logarithms of another base
        model = fit("SCMEDAL_FE", adata, max_epochs=10, early_stopping=False)
        rows = model.validation_indices
        values = model.get_reconstruction(indices=rows, return_numpy=True)
        residual = adata.X[rows] - values
        logged = float(model.history["mse_validation"].iloc[-1].item())
        assert np.square(residual).mean() == pytest.approx(logged, rel=1e-4)
        assert np.abs(residual.mean(0)).mean() < 0.5


@pytest.mark.parametrize("verb", ["get_latent_representation", "get_reconstruction"])
def test_inference_leaves_the_global_generators_alone(trained, fresh, verb):
    draws = {"n_samples": 2} if type(trained).__name__ == "SCMEDAL_RE" else {}
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for arguments in ({}, {"adata": fresh}, draws):
        getattr(trained, verb)(**arguments)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])
