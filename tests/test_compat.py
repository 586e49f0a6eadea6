"""What is private in other packages is used in one file, and does what is expected of it."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField
from scvi.train import TrainerConfig, TrainingPlan, TrainingPlanConfig

import scmedal_tools as smt
from scmedal_tools._compat import (
    adam_of,
    copy_if_view,
    device_of,
    forget_cells,
    forget_registration,
    given_settings,
    keep_codes,
    latest_manager,
    manager_of,
    minibatches_of,
    obs_on_disk,
    register_with,
    registered_manager,
    renew_identifier,
    replace_content,
    source_registry,
    times_changed,
    training_loader_in_order,
    without_trace,
)

SOURCE = Path(__file__).parents[1] / "src" / "scmedal_tools"
# What scvi-tools' guide to models of one's own uses, and a public method of a NamedTuple.
FOR_ALL = {
    "_asdict",
    "_check_if_trained",
    "_get_init_params",
    "_get_setup_method_args",
    "_make_data_loader",
}


def names_private_elsewhere(files):
    """Private names that are read or imported in these files, and defined in none of them."""
    defined, used = set(), {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    defined.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.Attribute(value=ast.Name("self"), attr=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.Attribute(attr=name):
                    used.setdefault(name, path)
                case ast.ImportFrom(level=0, module=module, names=names):
                    if not module.startswith("scmedal_tools"):
                        for name in [*module.split("."), *(alias.name for alias in names)]:
                            used.setdefault(name, path)
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    return {name: used[name].name for name in private - defined}


def test_private_names_of_other_packages_are_in_one_file():
    files = [path for path in SOURCE.rglob("*.py") if path.name != "_compat.py"]
    found = names_private_elsewhere(files)
    assert {name: file for name, file in found.items() if name not in FOR_ALL} == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("adata._inplace_subset_var(genes)", {"_inplace_subset_var"}),
        ("manager._source_registry = None", {"_source_registry"}),
        ("from torch.nn.modules.batchnorm import _BatchNorm", {"_BatchNorm"}),
        ("from scvi.data._utils import f", {"_utils"}),
        ("from scmedal_tools.model._base import f", set()),
        ("self._own = self._own + 1", set()),
    ],
)
def test_private_names_are_found(tmp_path, line, found):
    (tmp_path / "file.py").write_text(line)
    assert set(names_private_elsewhere([tmp_path / "file.py"])) == found


def test_defaults_of_a_config_are_not_given():
    assert given_settings(TrainerConfig(early_stopping_patience=3)) == {
        "early_stopping_patience": 3
    }
    assert given_settings(TrainingPlanConfig(lr=5e-4)) == {"lr": 5e-4}
    assert given_settings({"lr": 1e-3}) == {"lr": 1e-3}
    assert given_settings(None) == {}


def test_adam_has_the_settings_of_the_plan(build, cells):
    module = build("SCMEDAL_FE", cells.copy()).module
    plan = TrainingPlan(module, lr=0.1, eps=0.2, weight_decay=0.3)
    first, second = list(module.parameters())[:2]
    adam = adam_of(plan, [{"params": [first]}, {"params": [second], "lr": 0.4}])
    assert isinstance(adam, torch.optim.Adam)
    assert [group["lr"] for group in adam.param_groups] == [0.1, 0.4]
    assert {(group["eps"], group["weight_decay"]) for group in adam.param_groups} == {(0.2, 0.3)}


def test_views_become_data_of_their_own(adata):
    view = adata[:10]
    copy_if_view(view, copy=True)
    assert not view.is_view


def test_content_is_replaced_in_place(adata):
    view, content = adata[:10], adata[5:8, ::-1].copy()
    replace_content(view, content)
    assert not view.is_view
    assert (list(view.obs_names), list(view.var_names)) == (
        list(content.obs_names),
        list(content.var_names),
    )
    np.testing.assert_array_equal(view.X.toarray(), content.X.toarray())
    assert adata.n_obs == 240


def test_changes_of_a_tensor_are_counted():
    tensor = torch.zeros(2)
    before = times_changed(tensor)
    tensor + 1
    assert times_changed(tensor) == before
    tensor[0] = 1
    assert times_changed(tensor) > before


def test_devices_are_named_as_in_training():
    assert device_of("cpu", "auto") == torch.device("cpu")


class TestRegistration:
    @pytest.fixture(scope="class")
    def model(self, build, cells):
        return build("SCMEDAL_FE", cells.copy())

    def test_is_found_by_the_identifier(self, model):
        assert registered_manager(model, model.adata) is model.adata_manager
        copy = model.adata.copy()
        assert registered_manager(model, copy) is model.adata_manager
        renew_identifier(copy)
        assert registered_manager(model, copy) is None

    def test_the_latest_is_given(self, adata):
        for batch_key in ("donor", "cell_type"):
            smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key=batch_key)
            manager = latest_manager(smt.model.SCMEDAL_FE, adata)
            assert manager.registry["setup_args"]["batch_key"] == batch_key

    def test_codes_that_were_overwritten_are_renewed(self, adata):
        first, second = (
            AnnDataManager([CategoricalObsField("batch", key)], {})
            for key in ("donor", "cell_type")
        )
        first.register_fields(adata)
        codes = adata.obs["_scvi_batch"].copy()
        assert source_registry(first) is None
        keep_codes(first)
        names = source_registry(first)["field_registries"]["batch"]["state_registry"]
        assert list(names["categorical_mapping"]) == list(adata.obs["donor"].cat.categories)
        adata.obs["donor"] = adata.obs["donor"].cat.reorder_categories(
            list(names["categorical_mapping"])[::-1]
        )
        second.register_fields(adata)
        first.validate()
        pd.testing.assert_series_equal(adata.obs["_scvi_batch"], codes)

    def test_is_found_without_its_codes(self, build, adata):
        model = build("SCMEDAL_FE", adata)
        codes = adata.obs["_scvi_batch"].copy()
        smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="cell_type")
        manager = manager_of(model)
        assert not codes.equals(adata.obs["_scvi_batch"])
        assert model.adata_manager is manager
        assert codes.equals(adata.obs["_scvi_batch"])

    def test_of_further_cells_lasts_until_it_is_forgotten(self, model):
        further = model.adata[:20].copy()
        renew_identifier(further)
        manager = model.adata_manager.transfer_fields(further)
        register_with(model, manager)
        assert registered_manager(model, further) is manager
        forget_registration(model, manager)
        assert registered_manager(model, further) is None
        assert registered_manager(model, model.adata) is model.adata_manager

    def test_all_cells_are_forgotten(self, build, adata):
        model = build("SCMEDAL_FE", adata)
        forget_cells(model)
        assert registered_manager(model, adata) is None
        with pytest.raises(ValueError, match="setup"):
            latest_manager(type(model), adata)

    @pytest.mark.parametrize("before", [None, "cell_type"])
    def test_leaves_no_trace(self, adata, before):
        model_class = smt.model.SCMEDAL_FE
        if before:
            model_class.setup_anndata(adata, batch_key=before)
        with without_trace(model_class, adata):
            model_class.setup_anndata(adata, batch_key="donor")
        if before:
            manager = latest_manager(model_class, adata)
            assert manager.registry["setup_args"]["batch_key"] == before
        else:
            with pytest.raises(ValueError, match="setup"):
                latest_manager(model_class, adata)

    def test_minibatches_have_the_cells_in_their_order(self, model):
        chosen = np.array([7, 3, 200])
        (minibatch,) = minibatches_of(model, chosen)
        x = minibatch[REGISTRY_KEYS.X_KEY].numpy()
        np.testing.assert_array_equal(x, model.adata.X[chosen].toarray())


class TestOnDisk:
    @pytest.fixture(scope="class")
    def on_disk(self, cells, tmp_path_factory):
        pytest.importorskip("annbatch")
        folder = tmp_path_factory.mktemp("cells")
        cells.write_h5ad(folder / "cells.h5ad")
        return smt.model.SCMEDAL_FE.setup_annbatch(
            folder / "cells.zarr",
            [folder / "cells.h5ad"],
            batch_key="donor",
            shuffle=False,
            batch_size=64,
            chunk_size=16,
            preload_nchunks=8,
        )

    def test_columns_are_those_of_all_cells(self, on_disk, cells):
        obs = obs_on_disk(on_disk)
        assert obs["donor"].astype(str).tolist() == cells.obs["donor"].astype(str).tolist()

    def test_training_cells_come_in_order(self, on_disk, cells):
        on_disk.set_split(train_size=0.9)
        loader = training_loader_in_order(on_disk)
        x = np.concatenate([batch[REGISTRY_KEYS.X_KEY].to_dense().numpy() for batch in loader])
        np.testing.assert_allclose(x, cells.X[24:].toarray(), rtol=1e-6)
