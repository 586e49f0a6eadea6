"""Cells on disk: what a model finds and says of them is what it does of the same in memory."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scmedal_tools as smt
from scmedal_tools.model import _fit_gene_effects, _on_disk, _re

pytest.importorskip("annbatch")

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


class TestRegistration:
    @pytest.mark.parametrize("setup", [SETUPS["SCMEDAL_FEC"], TWO_FACTORS])
    def test_codes_are_those_of_memory(self, twins, setup):
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

    def test_of_a_layer(self, on_disk, folder, adata):
        cells = smt.model.SCMEDAL_FE.setup_annbatch(
            folder / "layer.zarr", [folder / "cells.h5ad"], batch_key="donor", layer="also"
        )
        assert cells.registry["setup_args"]["layer"] == "also"
        other = adata.copy()
        other.layers["also"] = other.layers["counts"]
        other.write_h5ad(folder / "counts.h5ad")
        with pytest.raises(ValueError, match=r"adata\.layers\['also'\] .*counts"):
            smt.model.SCMEDAL_FE.setup_annbatch(
                folder / "none.zarr", [folder / "counts.h5ad"], batch_key="donor", layer="also"
            )

    @pytest.mark.parametrize(
        ("change", "setup", "message"),
        [
            ({}, {"layer": "none"}, "layer='none' is not there. It has 'also', 'counts'"),
            ({}, {"batch_key": "sample"}, "obs has no column 'sample'. It has 'donor'"),
            ({"raw": True}, {}, r"del adata\.raw"),
            ({"donor": "one"}, {}, "1 level"),
            ({"donor": [None] * 9 + ["a", "b", "c"] * 77}, {}, "missing in 9 of 240 cells"),
        ],
    )
    def test_what_is_refused(self, adata, tmp_path, change, setup, message):
        adata = adata.copy()
        if change.pop("raw", False):
            adata.raw = adata
        adata.obs = adata.obs.assign(**change)
        adata.write_h5ad(tmp_path / "cells.h5ad")
        with pytest.raises(ValueError, match=message):
            smt.model.SCMEDAL_RE.setup_annbatch(
                tmp_path / "cells.zarr",
                [tmp_path / "cells.h5ad"],
                **{"batch_key": "donor"} | READ | setup,
            )

    def test_files_have_the_same_genes(self, adata, folder, tmp_path):
        adata[:, ::-1].write_h5ad(tmp_path / "turned.h5ad")
        paths = [folder / "cells.h5ad", tmp_path / "turned.h5ad"]
        with pytest.raises(ValueError, match=r"turned\.h5ad: its genes are not those of"):
            smt.model.SCMEDAL_RE.setup_annbatch(tmp_path / "x.zarr", paths, batch_key="donor")

    def test_needs_files_or_a_collection(self, tmp_path):
        with pytest.raises(ValueError, match="pass `paths`"):
            smt.model.SCMEDAL_FE.setup_annbatch(tmp_path / "none.zarr", batch_key="donor")

    def test_an_existing_collection_is_checked_too(self, on_disk):
        with pytest.raises(ValueError, match="1 level"):
            on_disk("SCMEDAL_FE", batch_key="src_path")
        with pytest.raises(ValueError, match=r"lack a column of sample: .*rebuild=True"):
            on_disk("SCMEDAL_FE", batch_key="sample")

    def test_arguments_that_are_not_offered(self, folder):
        with pytest.raises(TypeError, match=r"no states_key.*setup_anndata"):
            smt.model.SCMEDAL_RE.setup_annbatch(
                folder / "False.zarr", batch_key="donor", states_key="cell_type"
            )

    def test_without_annbatch(self, monkeypatch, folder):
        monkeypatch.setattr(_on_disk, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r'pip install "scmedal-tools\[outofcore\]"'):
            smt.model.SCMEDAL_RE.setup_annbatch(folder / "False.zarr", batch_key="donor")

    def test_a_collection_is_built_once(self, on_disk, folder):
        ours = [torch.cat([x["X"] for x in on_disk("SCMEDAL_FE", shuffle=True)
                           .inference_dataloader()]) for _ in range(2)]  # fmt: skip
        assert torch.equal(*ours)
        again = on_disk("SCMEDAL_FE", shuffle=True, rebuild=True).inference_dataloader()
        assert not torch.equal(ours[0], torch.cat([x["X"] for x in again]))


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
        with pytest.raises(ValueError, match=r"load\(folder, adata=False, datamodule=datamodule"):
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
        loaded = smt.model.SCMEDAL_RE.load(saved, adata=False, datamodule=other, accelerator="cpu")
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
