"""Registration of cells on disk, and the collection that is built of them."""

import anndata as ad
import numpy as np
import pytest
import scvi
import torch

import scmedal_tools as smt
from scmedal_tools.model import _on_disk

pytestmark = pytest.mark.slow

annbatch = pytest.importorskip("annbatch")

READ = {"batch_size": 64, "chunk_size": 16, "preload_nchunks": 8}


@pytest.fixture(scope="module")
def adata(labelled):
    """With no more columns than are needed, each of which takes a tenth of a second to write."""
    adata = labelled.copy()
    adata.obs, adata.var, adata.varm = adata.obs[["donor"]], adata.var[[]], {}
    adata.layers["also"] = adata.X
    return adata


@pytest.fixture(scope="module")
def folder(adata, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    adata.write_h5ad(folder / "cells.h5ad")
    return folder


@pytest.fixture(scope="module")
def on_disk(folder):
    """Give a function from a registration to the data module of the cells."""

    def on_disk(**setup):
        return smt.model.SCMEDAL_FE.setup_annbatch(
            folder / "cells.zarr",
            [folder / "cells.h5ad"],
            **{"batch_key": "donor"} | READ | setup,
        )

    return on_disk


class TestRegistration:
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
            ({"donor": "one"}, {}, "1 level"),
            ({"donor": [None] * 9 + ["a", "b", "c"] * 77}, {}, "missing in 9 of 240 cells"),
        ],
    )
    def test_what_is_refused(self, adata, tmp_path, change, setup, message):
        adata = adata.copy()
        adata.obs = adata.obs.assign(**change)
        adata.write_h5ad(tmp_path / "cells.h5ad")
        with pytest.raises(ValueError, match=message):
            smt.model.SCMEDAL_RE.setup_annbatch(
                tmp_path / "cells.zarr",
                [tmp_path / "cells.h5ad"],
                **{"batch_key": "donor"} | READ | setup,
            )

    def test_expression_gene_by_gene_is_refused(self, adata, tmp_path):
        adata = adata.copy()
        adata.X = adata.X.tocsc()
        adata.write_h5ad(tmp_path / "cells.h5ad")
        with pytest.raises(ValueError, match=r"gene by gene.*tocsr\(\)"):
            smt.model.SCMEDAL_FE.setup_annbatch(
                tmp_path / "cells.zarr", [tmp_path / "cells.h5ad"], batch_key="donor"
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
        on_disk()
        with pytest.raises(ValueError, match="1 level"):
            on_disk(batch_key="src_path")
        with pytest.raises(ValueError, match=r"no column 'sample', but 'donor'.*rebuild=True"):
            on_disk(batch_key="sample")

    def test_arguments_that_are_not_offered(self, folder):
        for name, advice in {"states_key": r": .*setup_anndata", "class_weights": r"\."}.items():
            with pytest.raises(TypeError, match=f"not take {name}{advice}"):
                smt.model.SCMEDAL_RE.setup_annbatch(
                    folder / "cells.zarr", batch_key="donor", **{name: "cell_type"}
                )

    def test_without_annbatch(self, monkeypatch, folder):
        monkeypatch.setattr(_on_disk, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r'pip install "\.\[outofcore\]"'):
            smt.model.SCMEDAL_RE.setup_annbatch(folder / "cells.zarr", batch_key="donor")

    def test_a_collection_is_built_once(self, on_disk, monkeypatch):
        def first_cells(**setup):
            monkeypatch.setattr(scvi.settings, "_seed", next(seeds), raising=False)
            cells = on_disk(**setup)
            return torch.cat([x["X"] for x in cells.inference_dataloader()])

        seeds = iter([0, 1, 1, 1])
        first, again, anew, the_same = (
            first_cells(rebuild=rebuild) for rebuild in (True, False, True, True)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, anew)
        assert torch.equal(anew, the_same)


class TestTheCollection:
    """What is there is used only if it is what was asked for."""

    @pytest.fixture
    def place(self, tmp_path, adata):
        adata[:120].write_h5ad(tmp_path / "one.h5ad")
        adata[120:].write_h5ad(tmp_path / "two.h5ad")
        return tmp_path

    @pytest.fixture
    def setup(self, place):
        def setup(*names, **options):
            paths = [place / f"{name}.h5ad" for name in names] or None
            return smt.model.SCMEDAL_FE.setup_annbatch(
                place / "cells.zarr", paths, batch_key="donor", **READ | options
            )

        return setup

    def test_of_another_layer(self, setup):
        setup("one")
        with pytest.raises(ValueError, match=r"layer=None, not layer='also'.*rebuild=True"):
            setup(layer="also")
        assert setup("one", layer="also", rebuild=True).registry["setup_args"]["layer"] == "also"
        with pytest.raises(ValueError, match=r"layer='also', not layer=None"):
            setup()

    def test_of_other_files(self, setup, place, adata):
        setup("one")
        with pytest.raises(ValueError, match=r"from one\.h5ad \(120 cells\), and .*two\.h5ad"):
            setup("one", "two")
        adata[:100].write_h5ad(place / "one.h5ad")
        with pytest.raises(ValueError, match=r"`paths` has one\.h5ad \(100 cells\).*rebuild"):
            setup("one")
        (place / "one.h5ad").unlink()
        assert setup("one").n_obs == setup().n_obs == 120

    def test_an_interrupted_build_is_begun_again(self, setup, monkeypatch):
        def stop(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("annbatch.io.write_sharded", stop)
            with pytest.raises(KeyboardInterrupt):
                setup("one", "two")
        with pytest.raises(ValueError, match="no collection yet: pass `paths`"):
            setup()
        assert setup("one", "two").n_obs == 240

    @pytest.mark.parametrize("rebuild", [False, True])
    def test_what_is_no_collection_is_left_alone(self, setup, place, rebuild):
        (place / "cells.zarr").mkdir()
        (place / "cells.zarr" / "thesis.txt").touch()
        with pytest.raises(ValueError, match=r"is no collection: choose another"):
            setup("one", rebuild=rebuild)
        assert (place / "cells.zarr" / "thesis.txt").exists()

    def test_raw_is_not_read(self, place, adata):
        adata = adata.copy()
        adata.raw = adata[:, :5]
        adata.write_h5ad(place / "raw.h5ad")
        cells = smt.model.SCMEDAL_FE.setup_annbatch(
            place / "raw.zarr", [place / "raw.h5ad"], batch_key="donor", shuffle=False, **READ
        )
        read = torch.cat([x["X"] for x in cells.inference_dataloader()])
        np.testing.assert_array_equal(read, adata.X.toarray())

    def test_a_batch_that_stands_together_is_distributed(self, tmp_path):
        cells = ad.AnnData(np.eye(6_000, 3, dtype=np.float32) + 0.5)
        cells.obs["donor"] = np.repeat([f"donor {i}" for i in range(15)], 400)
        cells.write_h5ad(tmp_path / "cells.h5ad")
        smt.model.SCMEDAL_FE.setup_annbatch(
            tmp_path / "cells.zarr",
            [tmp_path / "cells.h5ad"],
            batch_key="donor",
            dataset_size=2_000,
        )
        parts = list(annbatch.DatasetCollection(tmp_path / "cells.zarr", mode="r"))
        donors = [set(ad.io.read_elem(part["obs"])["donor"]) for part in parts]
        assert len(parts) == 3
        # Each would be in one part, or two, if a thousand cells stayed together.
        assert sum(map(len, donors)) > 1.6 * 15
