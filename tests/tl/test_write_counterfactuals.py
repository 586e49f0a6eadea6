"""Counterfactual expression on disk: the same values."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr

import scmedal_tools as smt
from scmedal_tools.tl import _write_counterfactuals

from .stored import TARGETS, close, layers

SUMMARIES = ["mean", "sd", "lower", "upper"]


@pytest.fixture
def fresh(cells):
    """Some of the cells, in an object that no model knows."""
    return cells[::3].copy()


@pytest.fixture
def verb(re):
    """Give tables."""

    def verb(**kwargs):
        return re.get_counterfactual_expression(**{"transform_batch": TARGETS} | kwargs)

    return verb


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"swap": "decoder", "keep_residual": True},
        {"indices": [200, 3, 77, 4], "batch_size": 3},
        {"n_samples": 3, "indices": range(0, 140, 2)},
    ],
)
class TestValues:
    def test_zarr(self, verb, write, tmp_path, options):
        path = write(tmp_path / "cells.zarr", **options)
        assert path == tmp_path / "cells.zarr"
        expected = verb(**options)
        result = ad.read_zarr(path)
        assert set(result.layers) == set(TARGETS)
        for target, table in expected.items():
            ours = result.to_df(target)
            pd.testing.assert_frame_equal(ours, table, check_names=False, rtol=1e-4, atol=1e-5)

    def test_npy(self, verb, write, tmp_path, options):
        result = write(str(tmp_path / "cells.npy"), **options)
        assert isinstance(result, np.memmap)
        assert not result.flags.writeable
        close(result, list(verb(**options, return_numpy=True).values()))
        np.testing.assert_array_equal(result, np.load(tmp_path / "cells.npy"))


class TestStore:
    @pytest.mark.slow
    def test_has_cells_genes_and_request(self, re, write, tmp_path):
        genes = list(re.adata.var_names[[9, 1]])
        path = write(tmp_path / "a.zarr", gene_list=genes, indices=[7, 5])
        result = ad.read_zarr(path)
        assert result.shape == (2, 2)
        pd.testing.assert_frame_equal(
            result.obs, re.adata.obs.iloc[[7, 5]], check_index_type=False, check_dtype=False
        )
        assert list(result.var_names) == genes
        about = result.uns["scmedal_counterfactual"]
        assert list(about["targets"]) == list(about["layers"]) == TARGETS
        assert about["swap"] == "content"

    @pytest.mark.slow
    def test_one_layer_can_be_read_in_part(self, verb, write, tmp_path):
        path = write(tmp_path / "a.zarr")
        rows = zarr.open_group(path, mode="r")["layers/donor_03"][10:13]
        close(rows, verb(transform_batch="donor_03", return_numpy=True)[10:13])

    @pytest.mark.slow
    def test_intervals(self, verb, write, tmp_path):
        options = {"n_samples": 4, "interval": 0.5, "indices": range(70)}
        expected = verb(**options, return_numpy=True)
        in_zarr = layers(write(tmp_path / "a.zarr", **options))
        in_npy = write(tmp_path / "a.npy", **options)
        assert len(in_zarr) == 12
        for i, (target, summaries) in enumerate(expected.items()):
            for j, (name, values) in enumerate(zip(SUMMARIES, summaries, strict=True)):
                close(in_zarr[target if name == "mean" else f"{target}_{name}"], values)
                close(in_npy[j, i], values)

    @pytest.mark.slow
    def test_mean_over_targets(self, verb, write, tmp_path):
        path = write(tmp_path / "a.zarr", aggregate="mean")
        ((name, values),) = layers(path).items()
        assert name == "mean"
        close(values, verb(aggregate="mean", return_numpy=True))

    @pytest.mark.slow
    def test_one_target(self, verb, write, tmp_path):
        expected = verb(transform_batch="donor_02", return_numpy=True)
        assert list(layers(write(tmp_path / "a.zarr", transform_batch="donor_02"))) == ["donor_02"]
        close(write(tmp_path / "a.npy", transform_batch="donor_02"), expected[None])

    @pytest.mark.slow
    def test_names_that_would_be_folders(self, fit, adata, tmp_path):
        names = {"donor_01": "ill/1", "donor_02": "not ill (2)", "donor_03": "ill_1"}
        adata.obs["donor"] = adata.obs["donor"].cat.rename_categories(names)
        model = fit("SCMEDAL_RE", adata)
        targets = ["ill/1", "not ill (2)"]
        expected = model.get_counterfactual_expression(transform_batch=targets, return_numpy=True)
        path = smt.tl.write_counterfactuals(
            model, model.adata, targets, tmp_path / "a.zarr", progress=False
        )
        ours = layers(path)
        assert set(ours) == {"ill_1", "not ill (2)"}
        close(ours["ill_1"], expected["ill/1"])
        close(ours["not ill (2)"], expected["not ill (2)"])
        about = ad.read_zarr(path).uns["scmedal_counterfactual"]
        assert dict(zip(about["targets"], about["layers"], strict=True))["ill/1"] == "ill_1"
        with pytest.raises(ValueError, match=r"Several layers would be called \['ill_1'\]"):
            smt.tl.write_counterfactuals(
                model, model.adata, ["ill/1", "ill_1"], tmp_path / "b.zarr"
            )
        assert not (tmp_path / "b.zarr").exists()

    def test_blocks_are_smaller_with_many_values(
        self, verb, write, computed, monkeypatch, tmp_path
    ):
        monkeypatch.setattr(_write_counterfactuals, "VALUES_PER_BLOCK", 3 * 60 * 30)
        close(write(tmp_path / "a.npy")[2], verb(return_numpy=True)["donor_01"])
        # The population is encoded apart from the other targets.
        assert computed.sizes[:2] == [30, 30]


@pytest.mark.slow
def test_other_cells_than_the_training_cells(re, verb, write, fresh, tmp_path):
    ours = layers(write(tmp_path / "a.zarr", adata=fresh[10:70]))
    for target, table in verb(adata=fresh[10:70].copy()).items():
        close(ours[target], table)


def test_another_kind_of_file(write):
    with pytest.raises(ValueError, match=r"ends in neither '\.zarr' nor '\.npy'"):
        write("a.h5ad")


@pytest.mark.parametrize("name", ["a.zarr", "a.npy"])
def test_cells_that_do_not_fit_leave_no_file(write, fresh, tmp_path, name):
    with pytest.raises(ValueError, match="genes"):
        write(tmp_path / name, adata=fresh[:, :20].copy())
    assert not list(tmp_path.iterdir())
