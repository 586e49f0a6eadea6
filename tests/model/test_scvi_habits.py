"""What users of scvi-tools type from habit works, or says what to type instead."""

import logging
from inspect import signature

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from lightning.pytorch.callbacks import EarlyStopping
from scvi.hub import HubMetadata, HubModel
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import ScibCallback, TrainerConfig, TrainingPlanConfig

from scmedal_tools.model import SCMEDAL_RE

from .conftest import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_normalized_expression_points_to_ours(trained_models, name):
    with pytest.raises(AttributeError, match=r"get_reconstruction .* get_corrected_express"):
        trained_models[name].get_normalized_expression(transform_batch="donor_01")


@pytest.mark.parametrize("name", MODELS)
class TestMethodsThatAModelDoesNotHave:
    def test_there_is_a_test_instead_of_differential_expression(self, trained_models, name):
        with pytest.raises(AttributeError, match=r"Use smt\.tl\.group_effects"):
            trained_models[name].differential_expression(groupby="condition")
        with pytest.raises(AttributeError, match=r"^\w+ has no get_elbo\. get_reconstruction_err"):
            trained_models[name].get_elbo()

    @pytest.mark.parametrize(
        ("method", "of"),
        [
            ("get_counterfactual_expression", "SCMEDAL_RE"),
            ("get_batch_effects", "SCMEDAL_RE"),
            ("predict", "SCMEDAL_FEC"),
        ],
    )
    def test_the_model_that_has_it_is_named(self, trained_models, name, method, of):
        model = trained_models[name]
        assert hasattr(model, method) == (method in dir(model)) == (name == of)
        if name != of:
            with pytest.raises(
                AttributeError, match=rf"^{name} has no {method}\. Train .* it: {of}\.$"
            ):
                getattr(model, method)

    def test_other_names_are_refused_as_everywhere(self, trained_models, name):
        with pytest.raises(AttributeError, match=f"'{name}' object has no attribute 'get_elbow'"):
            trained_models[name].get_elbow()

    def test_an_error_within_a_property_stays_what_it_is(self, trained_models, name, monkeypatch):
        broken = property(lambda self: self.adata.nothing)
        monkeypatch.setattr(SCMEDAL_RE, "anything", broken, raising=False)
        model = trained_models[name]
        message = "nothing" if name == "SCMEDAL_RE" else "has it: SCMEDAL_RE"
        with pytest.raises(AttributeError, match=message):
            _ = model.anything


def test_reconstruction_error_is_the_mean_of_the_cells(trained):
    found = trained.get_reconstruction_error(batch_size=50)
    assert list(found) == ["reconstruction_loss"]
    cells = np.arange(trained.adata.n_obs)
    parts = [trained.get_reconstruction_error(indices=part) for part in (cells[:60], cells[60:])]
    mean = (60 * parts[0]["reconstruction_loss"] + 180 * parts[1]["reconstruction_loss"]) / 240
    assert found["reconstruction_loss"] == pytest.approx(mean, rel=1e-5)


def test_reconstruction_error_of_each_cell(trained):
    cells = [7, 3, 200]
    found = trained.get_reconstruction_error(indices=cells, return_mean=False)
    one_by_one = [trained.get_reconstruction_error(indices=[cell]) for cell in cells]
    expected = [error["reconstruction_loss"] for error in one_by_one]
    assert isinstance(found["reconstruction_loss"], np.ndarray)
    np.testing.assert_allclose(found["reconstruction_loss"], expected, rtol=1e-5)


def test_reconstruction_error_is_that_of_the_history(fe):
    held_back = fe.get_reconstruction_error(indices=fe.validation_indices)["reconstruction_loss"]
    logged = fe.history["reconstruction_loss_validation"].iloc[:, 0].astype(float)
    assert np.isclose(logged, held_back, rtol=1e-4).any()


@pytest.mark.parametrize("return_numpy", [False, True])
class TestWhatACounterfactualReturns:
    """A table, or for a list of targets a dictionary; arrays in place of tables if asked for."""

    @pytest.fixture
    def result(self, re, return_numpy):
        def result(transform_batch, **kwargs):
            return re.get_counterfactual_expression(
                indices=[0, 5],
                transform_batch=transform_batch,
                return_numpy=return_numpy,
                **kwargs,
            )

        return result

    def test_one_target_or_the_mean_of_several(self, result, return_numpy):
        kind = np.ndarray if return_numpy else pd.DataFrame
        for options in (
            {"transform_batch": "donor_02"},
            {"transform_batch": {"donor": "donor_02"}},
            {"transform_batch": ["donor_02"], "aggregate": "mean"},
            {"transform_batch": ["donor_02", "donor_03"], "aggregate": "mean"},
        ):
            found = result(**options)
            assert type(found) is kind
            assert found.shape == (2, 60)

    def test_a_list_also_of_one(self, result, return_numpy):
        for targets in (["donor_02"], ["donor_02", "donor_03"]):
            found = result(targets)
            assert list(found) == targets
            kind = np.ndarray if return_numpy else pd.DataFrame
            assert {type(table) for table in found.values()} == {kind}

    def test_single_draws_are_arrays(self, re, result, return_numpy):
        draws = {"n_samples": 3, "return_mean": False}
        calls = (
            lambda: result("donor_02", **draws),
            lambda: re.get_reconstruction(indices=[0, 5], return_numpy=return_numpy, **draws),
        )
        for call in calls:
            if return_numpy:
                assert call().shape == (3, 2, 60)
            else:
                with pytest.raises(ValueError, match=r"pass return_numpy=True"):
                    call()

    def test_without_draws_there_is_no_mean_to_take(self, result):
        expected = result("donor_02")
        np.testing.assert_array_equal(result("donor_02", return_mean=False), expected)


class TestPrepareQuery:
    def test_genes_are_ordered_in_place(self, re, fresh):
        shuffled = fresh[:, ::-1].copy()
        assert SCMEDAL_RE.prepare_query_anndata(shuffled, re) is None
        pd.testing.assert_index_equal(shuffled.var_names, re.gene_names, check_names=False)
        expected = fresh.X.toarray()
        np.testing.assert_array_equal(shuffled.X.toarray(), expected)

    def test_a_copy(self, re, fresh):
        shuffled = fresh[:, ::-1].copy()
        prepared = SCMEDAL_RE.prepare_query_anndata(shuffled, re, inplace=False)
        assert list(prepared.var_names) == list(re.gene_names)
        assert list(shuffled.var_names) == list(re.gene_names[::-1])

    def test_names_alone(self, re, fresh, tmp_path):
        re.save(tmp_path / "model")
        names = SCMEDAL_RE.prepare_query_anndata(fresh, tmp_path / "model", True)
        assert list(names) == list(re.gene_names)

    def test_missing_genes_are_not_made_up(self, re, fresh):
        with pytest.raises(ValueError, match=r"3 of the 60 genes .* are missing"):
            SCMEDAL_RE.prepare_query_anndata(fresh[:, 3:].copy(), re)


class TestTrain:
    def test_arguments_by_position_are_those_of_scvi(self, build, adata):
        ours = list(signature(SCMEDAL_RE.train).parameters)
        theirs = list(signature(UnsupervisedTrainingMixin.train).parameters)
        assert ours[:-1] == [*theirs[:-1]]
        model = build("SCMEDAL_FE", adata)
        model.train(1, "cpu", 1, enable_progress_bar=False)
        assert len(model.history["train_loss"]) == 1

    def test_a_config_wins_over_the_preset_and_arguments_over_both(self, build, adata):
        model = build("SCMEDAL_FE", adata)
        trainer = TrainerConfig(early_stopping_patience=3, max_epochs=2, accelerator="cpu")
        model.train(
            trainer_config=trainer, plan_config=TrainingPlanConfig(lr=5e-4, eps=1e-3),
            plan_kwargs={"eps": 1e-5}, batch_size=64, enable_progress_bar=False,
        )  # fmt: skip
        (stopping,) = (c for c in model.trainer.callbacks if isinstance(c, EarlyStopping))
        assert stopping.patience == 3
        assert stopping.monitor == "selection_validation"  # the preset's
        assert model.trainer.max_epochs == 2
        assert model.trainer.lightning_module.lr == 5e-4
        assert model.trainer.lightning_module.eps == 1e-5

    def test_where_to_train_is_an_argument_first(self, build, adata):
        model = build("SCMEDAL_FE", adata)
        elsewhere = {"accelerator": "gpu", "devices": 4, "max_epochs": 1}
        model.train(
            accelerator="cpu", devices=1, trainer_config=elsewhere, enable_progress_bar=False
        )
        assert model.device.type == "cpu"

    @pytest.mark.parametrize("as_mapping", [False, True])
    def test_a_default_in_a_config_is_not_used_which_a_note_says(
        self, build, adata, caplog, monkeypatch, as_mapping
    ):
        """A config does not say whether its user chose it; a mapping does."""
        monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
        settings = {"early_stopping": False, "max_epochs": 2}
        model = build("SCMEDAL_FE", adata)
        with caplog.at_level("INFO", logger="lightning.pytorch"):
            model.train(
                trainer_config=settings if as_mapping else TrainerConfig(**settings),
                accelerator="cpu", batch_size=64, enable_progress_bar=False,
            )  # fmt: skip
        stops = any(isinstance(c, EarlyStopping) for c in model.trainer.callbacks)
        assert stops is not as_mapping
        # Each once: another test may have left a handler.
        notes = dict.fromkeys(text for text in caplog.messages if "Of this TrainerConfig" in text)
        assert [("max_epochs=2" in note, "early_stopping" in note) for note in notes] == (
            [] if as_mapping else [(True, False)]
        )

    @pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
    def test_tuning_by_scib_metrics_finds_latents_batches_and_types(self, build, labelled, name):
        model = build(name, labelled.copy(), {"labels_key": "partly_labelled"})
        callback = ScibCallback()
        model.train(1, "cpu", callbacks=[callback], batch_size=64, enable_progress_bar=False)
        kept = callback.pl_module._validation_epoch_outputs
        held_back = model.validation_indices
        with torch.inference_mode():  # RE's latent is returned in other axes
            minibatches = model._minibatches(None, held_back, None, None)
            latent = torch.cat([model._infer(tensors)["z"] for tensors in minibatches])
        np.testing.assert_allclose(kept["z"], latent, atol=1e-5)
        codes = {
            "batch": labelled.obs["donor"].astype("category").cat.codes,
            "labels": model.adata.obs["_scvi_labels"],
        }
        for key, expected in codes.items():
            np.testing.assert_array_equal(kept[key], expected.to_numpy()[held_back])
            of_training = callback.pl_module._training_epoch_outputs
            trained_on = expected.to_numpy()[model.train_indices]
            np.testing.assert_array_equal(np.sort(of_training[key]), np.sort(trained_on))
        assert of_training["z"].shape == (len(model.train_indices), latent.shape[1])


def test_a_model_for_the_hub_of_scvi_tools(re, tmp_path, fresh):
    folder = str(tmp_path / "model")
    re.save(folder)
    metadata = HubMetadata.from_dir(folder, "0.12", model_parent_module="scmedal_tools.model")
    hub = HubModel(folder, metadata=metadata, model_card=ModelCard("A model."))
    hub.load_model(fresh, accelerator="cpu")
    np.testing.assert_array_equal(
        hub.model.get_latent_representation(), re.get_latent_representation(fresh)
    )
