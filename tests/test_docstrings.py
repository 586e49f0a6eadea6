"""Docstrings of all public objects: their sections are complete, and their examples run.

By convention an example has ``smt``, ``adata``, ``model`` and ``result``, as the page of the API
says; see the namespace below.
"""

import doctest
import importlib
import inspect
import logging

import matplotlib.pyplot as plt
import pytest
import scvi
import torch
from lightning import LightningDataModule, LightningModule
from numpydoc.validate import validate

import scmedal_tools as smt

# Their methods are called by Lightning and scvi-tools, not by users.
OF_FRAMEWORKS = (torch.nn.Module, LightningModule, LightningDataModule)
# No docstring; parameters that are missing, or documented and not there; no returns; no example.
FAULTS = {"GL08", "PR01", "PR02", "RT01", "EX01"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODEL_OF = {"SCMEDAL_FE": "fe", "SCMEDAL_FEC": "fec"}
# They read files that have to be downloaded first.
READERS = {"datasets.aml", "datasets.asd", "datasets.healthy_heart"}


def public_objects():
    """Give the dotted name of every public function, class and method; inherited ones once."""
    seen = set()
    for part in smt.__all__:
        module = importlib.import_module(f"scmedal_tools.{part}")
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing):
                yield f"{part}.{name}"
            if not inspect.isclass(thing) or issubclass(thing, OF_FRAMEWORKS):
                continue
            for method, function in inspect.getmembers(thing, inspect.isroutine):
                function = inspect.unwrap(getattr(function, "__func__", function))
                is_ours = (getattr(function, "__module__", None) or "").startswith(smt.__name__)
                if is_ours and not method.startswith("_") and function not in seen:
                    seen.add(function)
                    yield f"{part}.{name}.{method}"


def object_of(name):
    thing = smt
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def is_record(thing):
    """Whether this is a result, whose fields have docstrings of their own."""
    return hasattr(thing, "__dataclass_fields__") or hasattr(thing, "_fields")


OBJECTS = list(public_objects())


@pytest.fixture(scope="module")
def fe(fit, cells):
    return fit("SCMEDAL_FE", cells.copy())


@pytest.fixture(scope="module")
def fec(fit, cells):
    return fit("SCMEDAL_FEC", cells.copy(), {"labels_key": "cell_type"})


@pytest.fixture(scope="module")
def re(fit, cells):
    splits = smt.train.stratified_split(cells.obs, ["donor", "cell_type"])
    return fit("SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": splits})


@pytest.fixture(scope="module")
def result(cells):
    return smt.bm.cross_validate(
        cells, "donor", "cell_type", ["condition"], models=["pca"], scheme="donors", n_folds=2,
        n_trees=10, progress=False,
    )  # fmt: skip


@pytest.fixture
def namespace(adata, fe, re, result):
    verbosity = scvi.settings.verbosity
    scvi.settings.verbosity = logging.WARNING  # its news would be taken for output
    yield {"adata": adata, "fe": fe, "model": re, "result": result}
    scvi.settings.verbosity = verbosity


def test_everything_public_is_found():
    assert {"pp.preprocess", "model.SCMEDAL_RE", "model.SCMEDAL_FEC.predict"} <= set(OBJECTS)
    assert "bm.CrossValidation.summary" in OBJECTS


@pytest.mark.parametrize("name", OBJECTS)
def test_sections(name):
    thing = object_of(name)
    faults = dict(validate(f"scmedal_tools.{name}")["errors"])
    if is_record(thing):
        faults.pop("PR01", None)
    assert not faults.keys() & FAULTS, faults


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(OBJECTS) - READERS))
def test_examples(name, namespace, request, tmp_path, monkeypatch):
    thing = object_of(name)
    if (of_class := name.split(".")[1]) in MODEL_OF:
        namespace["model"] = request.getfixturevalue(MODEL_OF[of_class])
    assert "+SKIP" not in thing.__doc__
    if name.endswith("setup_annbatch"):
        pytest.importorskip("annbatch")
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), namespace, name, None, 0)
    monkeypatch.chdir(tmp_path)
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append)
    plt.close("all")
    assert not report, "".join(report)
