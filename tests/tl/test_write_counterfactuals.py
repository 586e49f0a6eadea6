"""Counterfactual expression on disk: the same values, taken up where it stopped."""

import errno
import json
import os

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import zarr

import scmedal_tools as smt
from scmedal_tools.tl import _stores, _write_counterfactuals

SUMMARIES = ["mean", "sd", "lower", "upper"]
TARGETS = ["donor_03", "population", "donor_01"]


@pytest.fixture(autouse=True)
def _blocks_of_50_cells(monkeypatch):
    monkeypatch.setattr(_write_counterfactuals, "CELLS_PER_BLOCK", 50)


@pytest.fixture
def fresh(cells):
    """Some of the cells, in an object that no model knows."""
    return cells[::3].copy()


@pytest.fixture(scope="module")
def re(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


@pytest.fixture
def verb(re):
    """Give tables."""

    def verb(**kwargs):
        return re.get_counterfactual_expression(**{"transform_batch": TARGETS} | kwargs)

    return verb


@pytest.fixture
def write(re):
    """Write into a file."""

    def write(path, **kwargs):
        options = {"adata": re.adata, "transform_batch": TARGETS, "progress": False} | kwargs
        return smt.tl.write_counterfactuals(re, path=path, **options)

    return write


@pytest.fixture
def computed(re, monkeypatch):
    """Number of cells in each minibatch that has been encoded; raises at a minibatch if told."""
    sizes, infer = [], re._infer
    sizes_before_failure = []

    def counted(tensors, draw=None):
        if sum(sizes) in sizes_before_failure:
            sizes_before_failure.clear()
            raise KeyboardInterrupt
        sizes.append(len(tensors["X"]))
        return infer(tensors, draw)

    monkeypatch.setattr(re, "_infer", counted)
    # Which encodes cells of its own.
    monkeypatch.setattr(_write_counterfactuals, "warn_of_extrapolation", lambda *_: None)
    counted.sizes, counted.stop_after = sizes, sizes_before_failure.append
    return counted


def interrupted(write, computed, path, **kwargs):
    """Interrupt a call when it has finished 100 cells and encoded 20 more."""
    computed.stop_after(120)
    with pytest.raises(KeyboardInterrupt):
        write(path, **kwargs, batch_size=20)
    assert sum(computed.sizes) == 120
    computed.sizes.clear()


def layers(path):
    return {name: array[:] for name, array in ad.read_zarr(path).layers.items()}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


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


class TestFullDisk:
    """What is finished can be read, and the same call goes on once there is space."""

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["a.zarr", "a.npy"])
    def test_while_it_is_written(self, write, computed, tmp_path, monkeypatch, name):
        store = _stores.STORES[f".{name[2:]}"]
        write_block = store.write

        def full(self, start, values, record):
            if start == 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            write_block(self, start, values, record)

        write(tmp_path / f"whole{name[1:]}")
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", full)
            with pytest.raises(OSError, match=r"disk is full.*make the same call again") as error:
                write(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)

        def values(path):
            return np.load(path) if name == "a.npy" else [*map(layers(path).get, TARGETS)]

        expected, ours = (np.array(values(tmp_path / x)) for x in (f"whole{name[1:]}", name))
        np.testing.assert_array_equal(ours[:, :100], expected[:, :100])
        assert not np.array_equal(ours[:, 100:], expected[:, 100:])
        computed.sizes.clear()
        write(tmp_path / name)
        assert sum(computed.sizes) == 140
        np.testing.assert_array_equal(values(tmp_path / name), expected)

    def test_before_the_first_cell(self, write, computed, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(OSError, match="disk is full"):
                write(tmp_path / "a.npy")
        assert not (tmp_path / "a.npy").exists()
        assert computed.sizes == []
        assert write(tmp_path / "a.npy").shape == (3, 240, 60)

    def test_the_space_of_an_array_is_taken_at_the_start(self, write, computed, tmp_path):
        interrupted(write, computed, tmp_path / "a.npy")
        held = (tmp_path / "a.npy").stat()
        assert 512 * held.st_blocks >= held.st_size


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
@pytest.mark.parametrize("name", ["a.zarr", "a.npy"])
class TestResuming:
    @pytest.fixture
    def read(self, name, tmp_path):
        def read():
            path = tmp_path / name
            if name.endswith(".npy"):
                return np.load(path)
            return np.stack([layers(path)[target] for target in TARGETS])

        return read

    @pytest.fixture
    def donors(self, write):
        """Write those of two donors only, as a population is encoded again."""

        def donors(path, **kwargs):
            return write(path, **{"transform_batch": ["donor_03", "donor_01"]} | kwargs)

        return donors

    def test_an_interrupted_call_goes_on(self, donors, computed, name, tmp_path):
        out = tmp_path / name
        interrupted(donors, computed, out)
        donors(out)
        assert sum(computed.sizes) == 140
        whole = donors(tmp_path / f"whole_{name}")
        if name.endswith(".npy"):
            close(np.load(out), whole)
        else:
            ours, expected = layers(out), layers(whole)
            assert ours.keys() == expected.keys()
            for target, values in expected.items():
                close(ours[target], values)

    def test_finished_blocks_are_left_alone(self, donors, computed, name, tmp_path):
        out = tmp_path / name
        interrupted(donors, computed, out)
        if name.endswith(".npy"):
            np.load(out, mmap_mode="r+")[:, :100] = -7.0
        else:
            zarr.open_group(out, mode="r+")["layers/donor_01"][:100] = -7.0
        result = donors(out)
        values = result[1] if name.endswith(".npy") else layers(out)["donor_01"]
        assert (values[:100] == -7.0).all()
        assert (values[100:] != -7.0).all()

    def test_a_finished_result_is_returned(self, donors, computed, name, tmp_path):
        first = donors(tmp_path / name)
        computed.sizes.clear()
        again = donors(tmp_path / name)
        assert not computed.sizes
        assert type(again) is type(first)

    def test_a_loaded_model_goes_on(self, re, donors, computed, name, tmp_path):
        interrupted(donors, computed, tmp_path / name)
        re.save(tmp_path / "model")
        loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", re.adata, accelerator="cpu")
        targets = ["donor_03", "donor_01"]
        smt.tl.write_counterfactuals(loaded, re.adata, targets, tmp_path / name, progress=False)

    def test_another_request_is_refused(self, donors, name, tmp_path):
        donors(tmp_path / name, indices=range(20))
        for change, message in (
            ({"transform_batch": ["donor_01", "donor_03"]}, "targets: .* there, .* now"),
            ({"swap": "decoder"}, "swap: 'content' there, 'decoder' now"),
            ({"keep_residual": True}, "keep_residual: False there, True now"),
            ({"n_samples": 2}, "n_samples: None there, 2 now; seed"),
            ({"aggregate": "mean"}, "aggregate: None there"),
            ({"indices": range(239)}, "hash of the cells"),
        ):
            refusal = f"{name} holds .*{message}.* Delete it, or choose"
            with pytest.raises(ValueError, match=refusal):
                donors(tmp_path / name, **{"indices": range(20)} | change)

    def test_other_genes_are_refused(self, re, donors, name, tmp_path):
        genes = list(re.adata.var_names[:2])
        donors(tmp_path / name, gene_list=genes)
        with pytest.raises(ValueError, match="hash of the genes"):
            donors(tmp_path / name, gene_list=genes[::-1])

    def test_another_seed_is_refused_with_draws(self, donors, name, tmp_path, monkeypatch):
        options = {"indices": [0, 1], "path": tmp_path / name, "n_samples": 2}
        donors(**options)
        monkeypatch.setattr(scvi.settings, "seed", 5)
        with pytest.raises(ValueError, match="seed: 0 there, 5 now"):
            donors(**options)

    def test_another_model_is_refused(self, re, donors, name, tmp_path):
        donors(tmp_path / name)
        effects = re.module.gene_effects.factors[0].loc
        before = effects[0, 0, 0].clone()
        effects[0, 0, 0] += 1e-3
        with pytest.raises(ValueError, match="hash of the model"):
            donors(tmp_path / name)
        effects[0, 0, 0] = before

    def test_a_file_of_something_else_is_refused(self, donors, name, tmp_path):
        for content in (b"", b"mine"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name} is there, and is not a result of this"):
                donors(tmp_path / name)
            assert (tmp_path / name).read_bytes() == content

    def test_nothing_half_made_is_left(self, re, donors, name, tmp_path):
        with pytest.raises(ValueError, match="selects no cell"):
            donors(tmp_path / name, indices=[])
        assert not list(tmp_path.iterdir())


def test_a_deleted_array_is_written_anew(write, tmp_path):
    options = {"indices": range(10), "path": tmp_path / "a.npy"}
    expected = np.array(write(**options))
    assert json.loads((tmp_path / "a.npy.json").read_text())["n_done"] == 10
    (tmp_path / "a.npy").unlink()
    np.testing.assert_array_equal(write(**options), expected)


@pytest.mark.slow
def test_another_store_is_refused(re, write, tmp_path):
    re.adata.write_zarr(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="not a result of this function"):
        write(tmp_path / "a.zarr")
    assert ad.read_zarr(tmp_path / "a.zarr").shape == re.adata.shape


@pytest.mark.slow
def test_an_unfinished_store_has_gaps(write, computed, tmp_path):
    out = tmp_path / "a.zarr"
    interrupted(write, computed, out, transform_batch=["donor_01"])
    values = layers(out)["donor_01"]
    assert np.isfinite(values[:100]).all()
    assert np.isnan(values[100:]).all()


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
