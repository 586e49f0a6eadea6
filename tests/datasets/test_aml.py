"""Reader of GSE116256 on miniatures, and its names against the shared subset."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scmedal_tools as smt
from scmedal_tools.datasets import aml
from scmedal_tools.datasets._aml import _sample

from ..published import write_sample

pytestmark = pytest.mark.filterwarnings("ignore:.*batches, where the paper has 19")


@pytest.fixture
def folder(tmp_path):
    """Two time points of a patient, a sorted and another control, a line, an ambiguous donor."""
    for number, (sample, types) in enumerate(
        {
            "AML328-D0": ["HSC-like", "T", np.nan],
            "AML328-D29": ["Mono-like", "T"],
            "AML314-D0": ["Mono", "B"],
            "BM1": ["Mono", "unclear"],
            "BM5-34p38n": ["HSC", "Prog"],
            "BM5-34p": ["HSC"],
            "OCI-AML3": ["GMP-like"],
        }.items()
    ):
        write_sample(tmp_path, sample, types, 10 * number + 10, apart=sample.startswith("AML"))
    return tmp_path


def test_filters_and_batches_of_the_paper(folder):
    adata = aml(folder, progress=False)
    assert adata.obs["donor"].value_counts().to_dict() == {
        "AML328": 4,
        "BM5": 3,
        "BM1": 1,
        "OCI-AML3": 1,
    }
    groups = adata.obs.groupby("donor", observed=True)["patient_group"].unique()
    assert {donor: list(group) for donor, group in groups.items()} == {
        "AML328": ["AML"],
        "BM1": ["control"],
        "BM5": ["control"],
        "OCI-AML3": ["cell line"],
    }
    assert adata.obs["cell_type"].notna().all()
    assert adata.obs_names.is_unique
    assert adata.uns["published"] == {
        "source": "GEO GSE116256",
        "cells_read": 11,
        "cells_without_type_left_out": 2,
        "samples_left_out": ["AML314-D0"],
    }


def test_days_are_those_of_the_names(folder):
    adata = aml(folder, progress=False)
    assert adata.obs.groupby("sample", observed=True)["day"].first().dropna().to_dict() == {
        "AML328-D0": 0.0,
        "AML328-D29": 29.0,
    }
    assert adata.obs.loc[adata.obs["patient_group"] != "AML", "day"].isna().all()


def test_counts_and_types_belong_to_their_cells(tmp_path):
    """The annotation is in reverse order."""
    types = ["HSC", "T", "B", "NK"]
    first = write_sample(tmp_path, "AML556-D0", types, 3)
    second = write_sample(tmp_path, "BM2", types, 8)
    adata = aml(tmp_path, progress=False)
    for table in (first, second):
        part = adata[table.index]
        np.testing.assert_array_equal(part.X.toarray(), table.to_numpy())
        assert part.obs["cell_type"].tolist() == types
        assert part.obs["n_reads"].tolist() == [100, 101, 102, 103]
    assert list(adata.var_names) == list(first.columns)
    assert adata.X.dtype == np.float32


def test_without_filters_nothing_is_left_out(folder):
    adata = aml(folder, paper_filters=False, progress=False)
    assert adata.n_obs == 13
    assert adata.obs["cell_type"].isna().sum() == 2
    assert "AML314" in set(adata.obs["donor"])


def test_can_be_written_and_preprocessed(folder):
    adata = aml(folder, progress=False)
    adata.write_h5ad(folder / "aml.h5ad")
    again = ad.read_h5ad(folder / "aml.h5ad")
    assert again.obs["donor"].tolist() == adata.obs["donor"].tolist()
    smt.pp.preprocess(again, batch_key="donor", n_top_genes=None, min_genes=1, min_cells=1)
    assert again.n_obs > 0


@pytest.mark.filterwarnings("default:.*batches, where the paper has 19")
def test_missing_batches_are_announced(folder):
    with pytest.warns(UserWarning, match="4 batches, where the paper has 19"):
        aml(folder, progress=False)


def test_unpacked_files_are_read(tmp_path):
    write_sample(tmp_path, "BM1", ["HSC", "T"], gz="")
    assert aml(tmp_path, progress=False).n_obs == 2


class TestErrors:
    def test_empty_folder_says_what_to_download(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"GSE116256_RAW.tar"):
            aml(tmp_path)

    def test_missing_annotation(self, folder):
        next(folder.glob("*_BM1.anno.txt.gz")).unlink()
        with pytest.raises(FileNotFoundError, match=r"BM1.dem.txt.gz lacks its .*anno"):
            aml(folder)

    def test_only_donors_that_are_left_out(self, tmp_path):
        write_sample(tmp_path, "AML997-D0", ["T"])
        with pytest.raises(FileNotFoundError, match=r"leaves out"):
            aml(tmp_path)

    @pytest.mark.parametrize("name", ["patient7", "AML328", "BMX"])
    def test_other_name(self, tmp_path, name):
        write_sample(tmp_path, name, ["T"])
        with pytest.raises(ValueError, match=f"{name}.dem.txt.gz is not named"):
            aml(tmp_path)

    def test_other_genes(self, tmp_path):
        write_sample(tmp_path, "BM1", ["T"], 1)
        write_sample(tmp_path, "BM2", ["T"], 2, genes=("A1BG", "A2M", "TP63"))
        with pytest.raises(ValueError, match=r"BM2.*other genes"):
            aml(tmp_path, progress=False)

    def test_annotation_of_other_cells(self, tmp_path):
        write_sample(tmp_path, "BM1", ["T"], 1)
        annotation = next(tmp_path.glob("*anno*"))
        write_sample(tmp_path, "BM2", ["T"], 2)
        next(tmp_path.glob("*BM2.anno*")).rename(annotation)
        write_sample(tmp_path, "BM2", ["T"], 2)
        with pytest.raises(ValueError, match=r"BM1.anno.txt.gz lists other cells"):
            aml(tmp_path, progress=False)

    def test_sample_twice(self, tmp_path):
        write_sample(tmp_path, "BM1", ["T"], 1)
        write_sample(tmp_path, "BM1", ["T"], 2)
        with pytest.raises(ValueError, match="twice"):
            aml(tmp_path)


@pytest.mark.real
def test_names_are_those_of_the_shared_subset(data_dir):
    """It was made of files of GSE116256: same columns, donors and groups."""
    obs = ad.read_h5ad(data_dir / "aml_vangalen2019_d0.h5ad", backed="r").obs
    for cell, row in obs.groupby("donor", observed=True).head(1).iterrows():
        name = cell.rpartition("_")[0]
        path = data_dir / f"{row['geo_sample']}_{name}.dem.txt.gz"
        sample = _sample(path)
        assert (sample.donor, sample.patient_group) == (row["donor"], row["patient_group"])
        assert sample.day == 0 or (sample.patient_group == "control" and np.isnan(sample.day))
        assert sample.geo == row["geo_sample"]
