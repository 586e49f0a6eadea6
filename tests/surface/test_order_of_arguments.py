"""Whatever stands where cells or a model belong: the message says what is needed there."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

import pandas as pd
import pytest

from scmedal_tools import bm, ext, model, pl, pp, tl, train

pytestmark = pytest.mark.slow

PARTS = {"bm": bm, "ext": ext, "pl": pl, "pp": pp, "tl": tl, "train": train}
NEEDED = {"cells": r"AnnData\b.* needed", "model": r"SCMEDAL_\w+|scMEDAL model"}
ANNOTATION = {"cells": re.compile("AnnData"), "model": re.compile("SCMEDAL|MedalModel")}
OTHERS = {
    "basis": "X_umap_re",
    "cell_type": "kind 0",
    "batch_key": "donor",
    "color": "kind",
    "condition_key": "condition",
    "donor_key": "donor",
    "embeddings": ["X_re"],
    "formula": "~ condition",
    "found": pd.DataFrame({"enrichment": [0.0], "significant": [False]}),
    "group_key": "condition",
    "groups": "condition",
    "key": "X_re",
    "keys": ["X_re"],
    "labels_key": "kind",
    "source": "donor 0",
    "splits": [[0], [1], [2]],
    "target": "donor 1",
    "target_key": "condition",
    "target_keys": ["condition"],
    "transform_batch": "donor 0",
}
FURTHER = {"ext.aec": {"labels_key": "kind"}, "ext.scanvi": {"labels_key": "kind"}}
FURTHER["bm.balance_weights"] = {"preset": "paper"}
# Of models of other libraries.
NOT_OURS = {"bm.lemur_counterfactual", "bm.mrvi_counterfactual", "bm.scvi_counterfactual"}


class Call(NamedTuple):
    """A function, and what its arguments are: cells, a model, or anything else."""

    name: str
    function: object
    parameters: dict[str, str | None]


def kind_of(annotation):
    kinds = [kind for kind, pattern in ANNOTATION.items() if pattern.search(str(annotation))]
    return kinds[0] if kinds else None


def calls():
    for part, module in PARTS.items():
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function) and f"{part}.{name}" not in NOT_OURS:
                parameters = inspect.signature(function).parameters.values()
                kinds = {
                    p.name: kind_of(p.annotation)
                    for p in parameters
                    if (p.default is p.empty and p.kind is not p.VAR_KEYWORD)
                    or kind_of(p.annotation)
                }
                yield Call(f"{part}.{name}", function, kinds)


CALLS = {call.name: call for call in calls() if any(call.parameters.values())}
CASES = [(call, name) for call in CALLS.values() for name, kind in call.parameters.items() if kind]


def arguments(call, study, models, tmp_path):
    given = OTHERS | {"path": tmp_path / "a.npy", "fe": models.fe, "model_cls": model.SCMEDAL_RE}
    of_kind = {"cells": study.copy(), "model": models.re}
    needed = {
        name: given[name] if name in given else of_kind[kind]
        for name, kind in call.parameters.items()
    }
    return needed | FURTHER.get(call.name, {})


@pytest.mark.parametrize(("call", "name"), CASES, ids=[f"{c.name} {n}" for c, n in CASES])
def test_something_else(study, models, tmp_path, call, name):
    given = arguments(call, study, models, tmp_path)
    with pytest.raises((TypeError, ValueError), match=NEEDED[call.parameters[name]]):
        call.function(**given | {name: {"a": 1}})


BOTH = [c for c in CALLS.values() if {"cells", "model"} <= set(c.parameters.values())]


@pytest.mark.parametrize("call", BOTH, ids=lambda call: call.name)
def test_swapped(study, models, tmp_path, call):
    given = arguments(call, study, models, tmp_path)
    kinds = {kind: name for name, kind in call.parameters.items() if kind}
    cells, of_model = kinds["cells"], kinds["model"]
    swapped = given | {cells: given[of_model], of_model: given[cells]}
    with pytest.raises((TypeError, ValueError), match="|".join(NEEDED.values())):
        call.function(**swapped)


def test_a_training_is_drawn_of_a_model(study):
    with pytest.raises(TypeError, match="AnnData, and a trained scMEDAL model is needed"):
        pl.training(study)


METHODS = [
    (name, method)
    for name in model.__all__
    for method, function in inspect.getmembers(getattr(model, name), inspect.isroutine)
    if method[0] != "_" and method != "load" and function.__module__.startswith("scmedal_tools")
    and {"adata", "mdata"} & set([*inspect.signature(function).parameters][:2])
]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_methods(models, name, method):
    trained = next(m for m in models if type(m).__name__ == name)
    function = getattr(trained, method)
    given = {
        "batch_key": "donor",
        "modalities": {"rna_layer": "rna"},
        "reference_model": models.re,
        "transform_batch": "donor 0",
    }
    taken = {key: given[key] for key in inspect.signature(function).parameters if key in given}
    with pytest.raises((TypeError, ValueError), match=r"(AnnData|MuData)\b.* needed"):
        list(function({"a": 1}, **taken))


def test_a_query_with_model_and_cells_swapped(study, models):
    for method in ("load_query_data", "prepare_query_anndata"):
        with pytest.raises(TypeError, match=NEEDED["model"]):
            getattr(model.SCMEDAL_RE, method)(models.re, study)
        with pytest.raises(TypeError, match=NEEDED["cells"]):
            getattr(model.SCMEDAL_RE, method)(models.re, models.re)


@pytest.mark.parametrize("name", model.__all__)
def test_a_new_model(name):
    with pytest.raises(TypeError, match=NEEDED["cells"]):
        getattr(model, name)({"a": 1})
