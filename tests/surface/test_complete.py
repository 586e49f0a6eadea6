"""Each public function is called in the table of calls, or has a reason why it is not."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from scmedal_tools import bm, ext, model, pp, tl, train

from . import calls

PARTS = {"bm": bm, "ext": ext, "pp": pp, "tl": tl, "train": train}
FIXTURE = "makes the models that the table calls: tests/surface/conftest"
NETWORK = "trains a network of its own: tests/ext goes over all of them"
OTHER_MODEL = "of a model of another library: tests/bm/counterfactuals"
OF_RESULTS = "of results, not of cells: tests/bm/cross_validation"
NO_CELLS = "of no cells: tests/train"
SAVING = "of files: tests/model/test_saving"
NOT_CALLED = {
    "bm.balance_weights": "trains several networks: tests/bm/cross_validation",
    "bm.effect_recovery": "needs the truth of a simulation: tests/bm/counterfactuals",
    "bm.lemur_counterfactual": OTHER_MODEL,
    "bm.mrvi_counterfactual": OTHER_MODEL,
    "bm.scvi_counterfactual": OTHER_MODEL,
    "bm.summarise_folds": OF_RESULTS,
    "bm.write_tables": OF_RESULTS,
    "ext.ae": NETWORK,
    "ext.aec": NETWORK,
    "ext.aec_batch": NETWORK,
    "ext.saucie": NETWORK,
    "ext.scanorama": "seconds for the import, and neighbours of another library: tests/ext",
    "ext.scanvi": NETWORK,
    "ext.scvi": NETWORK,
    "model.finish": "of a checkpoint: tests/model/test_fit_gene_effects",
    "model.get_normalized_expression": "only says what to use: tests/model/test_scvi_habits",
    "model.load": SAVING,
    "model.save": SAVING,
    "model.setup_annbatch": "of files: tests/model/test_on_disk",
    "model.setup_anndata": FIXTURE,
    "model.setup_mudata": FIXTURE,
    "train.get_preset": NO_CELLS,
    "train.quiet": NO_CELLS,
}


def public():
    """Functions and methods that users find; tests/pl/test_names goes over all figures."""
    functions = {
        f"{part}.{name}"
        for part, module in PARTS.items()
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    methods = {
        f"model.{name}"
        for model_class in map(model.__dict__.get, model.__all__)
        for name, method in inspect.getmembers(model_class, callable)
        if name[0] != "_" and method.__module__.startswith("scmedal_tools")
    }
    return functions | methods


def in_table():
    """What is named in the table of calls, and in the functions there that it names."""
    tree = ast.parse(Path(calls.__file__).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    todo = [node.value for node in assignments if ast.unparse(node.targets[0]) == "CALLS"]
    found = set()
    while todo:
        for node in ast.walk(todo.pop()):
            if isinstance(node, ast.Name) and node.id in functions:
                todo.append(functions.pop(node.id))
            elif isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value).rpartition(".")[-1]
                found.add(f"{owner if owner in PARTS else 'model'}.{node.attr}")
    return found


def test_what_is_not_called_has_a_reason():
    assert public() - in_table() == NOT_CALLED.keys()
