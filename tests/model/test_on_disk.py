"""Cells on disk: what a model finds and says of them is what it does of the same in memory."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scmedal_tools as smt
from scmedal_tools.model import _fit_gene_effects, _re

pytestmark = pytest.mark.slow

annbatch = pytest.importorskip("annbatch")

TINY = {"n_hidden": (16, 8), "n_latent": 4, "adversary_hidden": (16,)}
QUICK = {"max_epochs": 2, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}
# As data modules divide 240 cells: the first tenth for validation.
SPLIT = [np.arange(24, 240), np.arange(24)]
IN_MEMORY = {"datasplitter_kwargs": {"external_indexing": SPLIT}}
READ = {"batch_size": 64, "chunk_size": 16, "preload_nchunks": 8}
UNKNOWN = "an unknown type"  # whose name comes before those of the types
SETUPS = {
    "SCMEDAL_FE": {},
    "SCMEDAL_FEC": {"labels_key": "partly_labelled", "unlabeled_category": UNKNOWN},
    "SCMEDAL_RE": {},
}
TWO_FACTORS = {"random_effect_keys": ["protocol"]}


@pytest.fixture(scope="module")
def adata(labelled):
    adata = labelled.copy()
    labels = adata.obs["partly_labelled"].replace("unlabeled", UNKNOWN)
    adata.obs["partly_labelled"] = labels.astype("category")
    adata.obs["protocol"] = np.random.default_rng(0).choice(["v2", "v3"], adata.n_obs)
    adata.layers["also"] = adata.X
    return adata


@pytest.fixture(scope="module")
def folder(adata, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    adata.write_h5ad(folder / "cells.h5ad")
    return folder


@pytest.fixture(scope="module")
def on_disk(folder):
    """Give a function from a model and its registration to the data module of the cells."""

    def on_disk(name, shuffle=False, **setup):
        return getattr(smt.model, name).setup_annbatch(
            folder / f"{shuffle}.zarr",
            [folder / "cells.h5ad"],
            shuffle=shuffle,
            **{"batch_key": "donor"} | READ | setup,
        )

    return on_disk


@pytest.fixture(scope="module")
def twins(fit, adata, on_disk):
    """Give a function to a model in memory, its twin on disk with its weights, and the cells."""

    def twins(name, **setup):
        model = fit(name, adata.copy(), setup, **IN_MEMORY)
        cells = on_disk(name, **setup)
        cells.set_split(train_size=0.9, shuffle_set_split=False, batch_size=64)
        twin = type(model)(registry=cells.registry, **TINY)
        twin.module.load_state_dict(model.module.state_dict())
        twin.module.eval()
        twin.is_trained_, twin._datamodule = True, cells
        return model, twin, cells

    return twins


@pytest.fixture(scope="module")
def re(twins):
    model, twin, cells = twins("SCMEDAL_RE")
    unfinish(twin)
    twin.finish()
    return model, twin, cells


def unfinish(model):
    for name, values in model.module.state_dict().items():
        if name.startswith(("gene_effects", "expression_")):
            values.zero_()
    model.module.is_finished.fill_(False)


def assert_same_state(model, twin):
    theirs = twin.module.state_dict()
    for name, values in model.module.state_dict().items():
        torch.testing.assert_close(theirs[name], values, rtol=1e-5, atol=1e-6, msg=name)


def assert_same(ours, theirs):
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setup", [{}, TWO_FACTORS], ids=["one factor", "two factors"])
@pytest.mark.parametrize("sizes", [None, (50, 100)], ids=["all cells", "some cells"])
def test_finished_from_disk_as_in_memory(twins, monkeypatch, setup, sizes):
    if sizes is not None:
        monkeypatch.setattr(_re, "CELLS_FOR_AXES", sizes[0])
        monkeypatch.setattr(_fit_gene_effects, "CELLS_FOR_STATES", sizes[1])
    model, twin, _ = twins("SCMEDAL_RE", **setup)
    unfinish(twin)
    assert not twin.module.expression_axes.any()
    twin.finish()
    assert twin.is_finished
    assert_same_state(model, twin)
    assert model.module.gene_effects.follows.any()


class TestResults:
    @pytest.mark.parametrize("kind", ["latent", "content"])
    def test_latents(self, re, kind):
        model, twin, cells = re
        assert_same(
            model.get_latent_representation(kind=kind),
            twin.get_latent_representation(dataloader=cells.inference_dataloader(), kind=kind),
        )

    def test_expression(self, re):
        model, twin, cells = re
        loader = cells.inference_dataloader()
        assert_same(
            model.get_reconstruction(return_numpy=True),
            twin.get_reconstruction(dataloader=loader, return_numpy=True),
        )
        options = {"transform_batch": ["donor_02", "population"], "return_numpy": True}
        ours = model.get_counterfactual_expression(**options)
        theirs = twin.get_counterfactual_expression(dataloader=loader, **options)
        for name, values in ours.items():
            assert_same(values, theirs[name])

    def test_effects(self, re):
        model, twin, _ = re
        ours, theirs = (m.get_batch_effects(n_cells=100) for m in (model, twin))
        pd.testing.assert_frame_equal(theirs, ours, check_categorical=False, rtol=1e-4, atol=1e-5)
        ours, theirs = (
            smt.tl.batch_similarity(m, n_samples=3, n_cells=100, progress=False)
            for m in (model, twin)
        )
        assert_same(ours, theirs)

    def test_swap_gap(self, re):
        model, twin, cells = re
        ours = model.get_swap_gap(batch_size=64)
        assert twin.get_swap_gap(dataloader=cells.inference_dataloader()) == pytest.approx(ours)

    def test_counterfactual_means_of_minibatches(self, re, adata):
        model, twin, cells = re
        ours = smt.tl.counterfactual_means(model, model.adata, "donor_02")
        total = np.zeros((4, adata.n_vars))
        donors = adata.obs["donor"].cat.codes.to_numpy()
        for _, _, place, values in twin.iter_expression(
            dataloader=cells.inference_dataloader(), transform_batch="donor_02"
        ):
            np.add.at(total, donors[place], values.numpy())
        assert_same(ours.layers["counterfactual"], total / np.bincount(donors)[:, None])

    def test_counterfactual_means_of_a_file(self, re, folder):
        model, twin, _ = re
        backed = ad.read_h5ad(folder / "cells.h5ad", backed="r")
        ours = smt.tl.counterfactual_means(model, model.adata, "donor_02")
        assert_same(ours.X, smt.tl.counterfactual_means(twin, backed, "donor_02").X)

    @pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC"])
    def test_without_random_effects(self, twins, name):
        model, twin, cells = twins(name, **SETUPS[name])
        for verb in ("get_latent_representation", "get_corrected_expression"):
            assert_same(
                getattr(model, verb)(),
                getattr(twin, verb)(dataloader=cells.inference_dataloader()),
            )
        if name == "SCMEDAL_FEC":
            assert list(twin.label_names) == list(model.label_names)
            predicted = twin.predict(dataloader=cells.inference_dataloader())
            np.testing.assert_array_equal(predicted, model.predict())


@pytest.mark.parametrize("setup", [SETUPS["SCMEDAL_FEC"], TWO_FACTORS])
def test_codes_are_those_of_memory(twins, setup):
    model, twin, cells = twins("SCMEDAL_FE", **setup)
    assert twin.factors.keys() == model.factors.keys()
    for ours, theirs in zip(model.factors.values(), twin.factors.values(), strict=True):
        assert list(ours) == list(theirs)
    assert list(twin.gene_names) == list(model.gene_names)
    read = list(cells.inference_dataloader())
    for key in ("X", "batch", "labels", "extra_categorical_covs"):
        if key in read[0]:
            ours = model._own_minibatches(np.arange(240))
            expected = torch.cat([tensors[key] for tensors in ours])
            assert torch.equal(torch.cat([x[key] for x in read]), expected.to(read[0][key]))


class TestTraining:
    @pytest.fixture(scope="class")
    def trained(self, on_disk):
        """Models trained from disk, with their cells."""
        models = {}
        for name, setup in SETUPS.items():
            cells = on_disk(name, shuffle=True, **setup)
            models[name] = getattr(smt.model, name)(registry=cells.registry, **TINY), cells
            with warnings.catch_warnings():
                warnings.filterwarnings("error", ".*are not fitted")
                models[name][0].train(datamodule=cells, early_stopping_warmup_epochs=0, **QUICK)
        return models

    @pytest.mark.parametrize("name", SETUPS)
    def test_from_disk(self, trained, name):
        model, cells = trained[name]
        assert len(model.history["train_loss"]) == len(model.history["validation_loss"]) == 2
        assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
        assert model.best_epoch_ is not None
        latent = model.get_latent_representation(dataloader=cells.inference_dataloader())
        assert latent.shape == (240, 4)
        assert np.isfinite(latent).all()
        x = torch.cat([x["X"] for x in cells.inference_dataloader()]).double()[24:]
        torch.testing.assert_close(
            model.module.scaler.shift.double(), x.mean(0), rtol=1e-5, atol=1e-6
        )

    def test_is_finished(self, trained):
        model, _ = trained["SCMEDAL_RE"]
        assert model.is_finished
        assert model.module.gene_effects.factors[0].sizes.sum() == 216

    @pytest.fixture(scope="class")
    def saved(self, trained, tmp_path_factory):
        path = tmp_path_factory.mktemp("models") / "model"
        trained["SCMEDAL_RE"][0].save(path)
        return path

    def test_is_saved_without_its_cells(self, trained, saved, adata):
        model, _ = trained["SCMEDAL_RE"]
        loaded = smt.model.SCMEDAL_RE.load(saved, adata=False, accelerator="cpu")
        assert_same(
            model.get_latent_representation(adata), loaded.get_latent_representation(adata)
        )
        with pytest.raises(ValueError, match=r"load\(folder, datamodule=datamodule"):
            loaded.get_batch_effects()

    def test_takes_cells_in_memory(self, saved, adata):
        loaded = smt.model.SCMEDAL_RE.load(saved, adata.copy(), accelerator="cpu")
        assert loaded.train_indices is None  # which are places in the collection
        assert loaded.get_latent_representation().shape == (240, 4)
        new = adata[:40].copy()
        new.obs["donor"] = "donor_05"
        query = smt.model.SCMEDAL_RE.load_query_data(new, loaded, accelerator="cpu")
        query.train(**QUICK)
        assert query.batch_names[-1] == "donor_05"
        assert query.module.gene_effects.factors[0].sizes[-1].sum() == 40

    def test_goes_on_with_its_data_module(self, trained, saved, on_disk):
        model, _ = trained["SCMEDAL_RE"]
        other = on_disk("SCMEDAL_RE", shuffle=True)
        loaded = smt.model.SCMEDAL_RE.load(saved, datamodule=other, accelerator="cpu")
        with pytest.raises(ValueError, match=r"datamodule\.set_split\(train_size=0\.9\)"):
            loaded.get_batch_effects()
        other.set_split(train_size=0.9)
        ours, theirs = (m.get_batch_effects(n_cells=240) for m in (model, loaded))
        pd.testing.assert_frame_equal(theirs, ours, rtol=1e-3, atol=1e-4)
        loaded.train(datamodule=other, **QUICK | {"max_epochs": 1})
        assert loaded.is_finished

    def test_what_needs_registered_cells_says_so(self, trained):
        model, _ = trained["SCMEDAL_RE"]
        with pytest.raises(ValueError, match="needs cells that are registered"):
            smt.tl.admissibility(model)

    @pytest.mark.parametrize("batch_size", [128, 32])
    def test_size_of_minibatches(self, on_disk, batch_size):
        cells = on_disk("SCMEDAL_FE")
        model = smt.model.SCMEDAL_FE(registry=cells.registry, **TINY)
        model.train(datamodule=cells, **QUICK | {"batch_size": batch_size, "max_epochs": 1})
        assert model.trainer.num_training_batches == -(-216 // batch_size)

    def test_the_same_cells_are_drawn_again(self, trained, monkeypatch):
        monkeypatch.setattr(_re, "CELLS_FOR_AXES", 50)
        monkeypatch.setattr(_fit_gene_effects, "CELLS_FOR_STATES", 100)
        model, _ = trained["SCMEDAL_RE"]
        ours, theirs = (model.get_batch_effects(n_cells=60, seed=0) for _ in range(2))
        pd.testing.assert_frame_equal(ours, theirs)
        states = []
        for _ in range(2):
            model.finish()
            states.append({k: v.clone() for k, v in model.module.state_dict().items()})
        for name, values in states[0].items():
            assert torch.equal(values, states[1][name]), name

    def test_other_donors_are_refused(self, trained, saved, adata, tmp_path):
        model, cells = trained["SCMEDAL_RE"]
        other = adata.copy()
        other.obs["donor"] = other.obs["donor"].astype(str).replace("donor_01", "donor_99")
        other.write_h5ad(tmp_path / "other.h5ad")
        other = smt.model.SCMEDAL_RE.setup_annbatch(
            tmp_path / "other.zarr", [tmp_path / "other.h5ad"], batch_key="donor", **READ
        )
        message = r"other batches than the model \(.*donor_99 in place of donor_01, .*`adata`"
        with pytest.raises(ValueError, match=message):
            model.train(datamodule=other, **QUICK)
        assert model._datamodule is cells
        with pytest.raises(ValueError, match=message):
            smt.model.SCMEDAL_RE.load(saved, datamodule=other, accelerator="cpu")

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            (
                "SCMEDAL_FE",
                {"random_effect_keys": ["protocol"]},
                "other levels of protocol .*none in",
            ),
            ("SCMEDAL_FEC", SETUPS["SCMEDAL_FEC"], "other cell types"),
        ],
    )
    def test_other_codes_are_refused(self, on_disk, name, change, message):
        model = getattr(smt.model, name)(registry=on_disk(name, **change).registry, **TINY)
        with pytest.raises(ValueError, match=message):
            model.train(datamodule=on_disk(name), **QUICK)

    def test_batches_without_validation_cells(self, adata, tmp_path):
        donors = adata.obs["donor"].astype(str).to_numpy()
        adata[np.argsort(donors, kind="stable")].write_h5ad(tmp_path / "sorted.h5ad")
        cells = smt.model.SCMEDAL_FE.setup_annbatch(
            tmp_path / "x.zarr",
            [tmp_path / "sorted.h5ad"],
            batch_key="donor",
            shuffle=False,
            **READ,
        )
        model = smt.model.SCMEDAL_FE(registry=cells.registry, **TINY)
        with pytest.warns(UserWarning, match=r"3 of 4 batches have no cells among the 24 for val"):
            model.train(datamodule=cells, **QUICK | {"max_epochs": 1})

    def test_arguments_of_a_splitter_are_refused(self, trained):
        model, cells = trained["SCMEDAL_FE"]
        with pytest.raises(ValueError, match="external_indexing in datasplitter_kwargs"):
            model.train(datamodule=cells, **IN_MEMORY, **QUICK)

    def test_several_processes_are_refused(self, trained):
        model, cells = trained["SCMEDAL_FE"]
        with pytest.raises(ValueError, match=r"in 2 processes is not supported: .*devices=1"):
            model.train(datamodule=cells, devices=2, strategy="ddp", **QUICK)

    def test_latents_of_a_file_have_its_order(self, trained, folder, adata):
        model, _ = trained["SCMEDAL_RE"]
        backed = ad.read_h5ad(folder / "cells.h5ad", backed="r")
        assert_same(
            model.get_latent_representation(adata), model.get_latent_representation(backed)
        )

    def test_cells_in_the_order_of_the_collection(self, trained, folder, adata):
        model, cells = trained["SCMEDAL_RE"]
        names = annbatch.DatasetCollection(folder / "True.zarr", mode="r").obs(["donor"]).index
        assert_same(
            model.get_latent_representation(adata[names].copy()),
            model.get_latent_representation(dataloader=cells.inference_dataloader()),
        )
