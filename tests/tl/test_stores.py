"""Counterfactuals on disk are taken up where they stopped; other files are left alone."""

import errno
import json
import os

import anndata as ad
import numpy as np
import pytest
import scvi
import zarr

import scmedal_tools as smt
from scmedal_tools.tl import _stores

from .stored import TARGETS, close, interrupted, layers


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
