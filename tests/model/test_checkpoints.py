"""Models that an earlier version saved, and files that are no models of this one."""

import json
import shutil
import sys
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scvi.model.base import BaseModelClass

import scmedal_tools as smt
from scmedal_tools.model import _saving

HERE = Path(__file__).parent / "checkpoints"
_of_file = spec_from_file_location("make", HERE / "make.py")
make = module_from_spec(_of_file)
_of_file.loader.exec_module(make)

WRITTEN_BY = json.loads((HERE / "versions.json").read_text())
needs_newer_pandas = pytest.mark.skipif(
    int(version("pandas").split(".")[0])
    < max(int(packages["pandas"].split(".")[0]) for packages in WRITTEN_BY.values()),
    reason="their tables are of a newer pandas",
)


def load(folder, adata=False):
    model_class = getattr(smt.model, make.MODELS[folder][0])
    return model_class.load(HERE / folder, adata, accelerator="cpu")


@needs_newer_pandas
@pytest.mark.parametrize("folder", make.MODELS)
@pytest.mark.parametrize("with_cells", [False, True])
def test_stored_models_compute_what_they_computed(folder, with_cells):
    adata = make.cells_of(folder)
    with np.load(HERE / "expected.npz") as saved:
        expected = dict(saved)
    np.testing.assert_array_equal(adata.X, expected["x"])  # otherwise the cells differ, not they
    model = load(folder, adata if with_cells else False)
    found = make.computed(model, adata)
    of_model = {key for key in expected if key.split()[0] == folder}
    assert {f"{folder} {key}" for key in found} == of_model
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[f"{folder} {key}"], rtol=1e-5, atol=1e-5)


def test_they_are_few_and_say_what_made_them():
    files = [path for path in HERE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 600_000
    for packages in WRITTEN_BY.values():
        assert {"scmedal-tools", "scvi-tools", "torch"} <= set(packages)
    assert set(WRITTEN_BY) == set(make.MODELS)
    assert {path.parent.name for path in HERE.glob("*/model.pt")} == set(make.MODELS)


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(HERE / "re", tmp_path / "re")
    return tmp_path / "re"


def cut(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_file_that_is_not_whole(folder, share):
    cut(folder / "model.pt", share)
    with pytest.raises(ValueError, match=r"re/model\.pt is not whole.*Copy it again"):
        smt.model.SCMEDAL_RE.load(folder, adata=False)


def save_what_is_not_known_here(file):
    """Object of a package that is not installed when the file is read."""
    package = ModuleType("of_tomorrow")
    package.Thing = type("Thing", (), {"__module__": package.__name__})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, package.__name__, package)
        torch.save({"thing": package.Thing()}, file)


FOREIGN = {
    "text": (lambda file: file.write_text("cell,gene"), "is not whole, or is no saved model"),
    "weights": (
        lambda file: torch.save({"layer": torch.ones(3)}, file),
        r"is no model that was saved by `model\.save\(folder\)`",
    ),
    "an array": (
        lambda file: (
            np.savez(file.with_suffix(".npz"), x=np.ones(3))
            or file.with_suffix(".npz").replace(file)
        ),
        r"cannot be read \(.*Copy it again",
    ),
    "of a newer package": (
        save_what_is_not_known_here,
        r"do not know \(.*of_tomorrow.*newer versions of scmedal-tools",
    ),
    "nothing": (Path.unlink, r"There is no model in .*re: it has no file model\.pt"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_something_else(folder, kind):
    write, message = FOREIGN[kind]
    write(folder / "model.pt")
    with pytest.raises(ValueError, match=message):
        smt.model.SCMEDAL_RE.load(folder, adata=False)


@needs_newer_pandas
def test_a_model_of_another_class():
    with pytest.raises(ValueError, match=r"of the class SCMEDAL_RE, .* by SCMEDAL_RE\.load"):
        smt.model.SCMEDAL_FE.load(HERE / "re", adata=False)


@needs_newer_pandas
@pytest.mark.parametrize("saved_by", ["0.2.0", "0.2rc1", "0.10.0", "99.0.dev1"])
def test_a_model_of_a_newer_version(tmp_path, monkeypatch, saved_by):
    model = load("fe")
    monkeypatch.setattr(_saving, "__version__", saved_by)
    model.save(tmp_path / "model")
    monkeypatch.setattr(_saving, "__version__", "0.1.7")
    with pytest.raises(
        ValueError, match=rf"saved by scmedal-tools {saved_by}, .* install version"
    ):
        smt.model.SCMEDAL_FE.load(tmp_path / "model", adata=False)


@needs_newer_pandas
@pytest.mark.parametrize("saved_by", ["0.1.0", "0.1.99", "0.0.3"])
def test_a_model_of_this_version_or_an_older_one(tmp_path, monkeypatch, saved_by):
    model = load("fe")
    monkeypatch.setattr(_saving, "__version__", saved_by)
    model.save(tmp_path / "model")
    monkeypatch.setattr(_saving, "__version__", "0.1.7")
    loaded = smt.model.SCMEDAL_FE.load(tmp_path / "model", adata=False, accelerator="cpu")
    assert loaded.version_ == saved_by
    loaded.save(tmp_path / "again")
    assert torch.load(tmp_path / "again" / "model.pt", weights_only=False)["attr_dict"][
        "version_"
    ] == "0.1.7"  # fmt: skip


@needs_newer_pandas
def test_a_network_that_does_not_fit_this_version(folder):
    saved = torch.load(folder / "model.pt", weights_only=False)
    del saved["model_state_dict"]["adversary.0.weight"]
    torch.save(saved, folder / "model.pt")
    with pytest.raises(
        ValueError, match=r"saved by scmedal-tools 0\.1\.0, .* not fit this version"
    ):
        smt.model.SCMEDAL_RE.load(folder, adata=False)


@needs_newer_pandas
def test_what_is_not_the_files_fault_is_not_blamed_on_it(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(BaseModelClass, "load", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        smt.model.SCMEDAL_RE.load(HERE / "re", adata=False)


@needs_newer_pandas
def test_cells_that_do_not_fit_are_told_as_such():
    adata = make.cells()[:, ::-1].copy()
    with pytest.raises(ValueError, match="another order"):
        load("re", adata)
