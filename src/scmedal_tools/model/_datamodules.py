"""What is asked of a data module that gives cells in place of registered ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities.model_helpers import is_overridden
from scvi import REGISTRY_KEYS
from scvi.dataloaders import AnnbatchDataModule, DataSplitter

from scmedal_tools._compat import obs_on_disk, training_loader_in_order
from scmedal_tools.train import loaded_minibatches

if TYPE_CHECKING:
    from lightning import LightningDataModule

    from ._inference import Minibatches


def check_codes(registry: Mapping, datamodule: LightningDataModule, with_labels: bool) -> None:
    """Refuse a data module whose codes mean something else than those of a model."""
    source = datamodule.adata_manager if isinstance(datamodule, DataSplitter) else datamodule
    theirs = getattr(source, "registry", None)
    if not isinstance(theirs, Mapping):
        return
    codes = _codes(theirs, with_labels)
    for what, names in _codes(registry, with_labels).items():
        if codes.get(what) != names:
            raise ValueError(
                f"The data module has other {what} than the model ({_some(codes.get(what) or [])} "
                f"in place of {_some(names)}), and would give cells the codes of others. Take one "
                "of the collection that the model was trained on; pass other cells as `adata`, "
                "and make a new model to train on them."
            )


def check_early_stopping(datamodule: LightningDataModule) -> None:
    """Refuse early stopping by a module that has no validation cells."""
    if not is_overridden("val_dataloader", datamodule):
        raise ValueError(
            "Early stopping needs validation cells, and the data module has no val_dataloader: "
            "write one, or pass `early_stopping=False` to train for all epochs."
        )


def set_batch_size(datamodule: LightningDataModule, batch_size: int) -> None:
    """Give a size of minibatches to a module that takes one.

    scvi-tools does so too, but takes 128, its own default, for none that is given.
    """
    if hasattr(datamodule, "set_batch_size"):
        datamodule.set_batch_size(batch_size)


def warn_of_batches_not_validated(datamodule: LightningDataModule) -> None:
    """Warn of batches on disk of which no cell is at the beginning, which is for validation."""
    if not isinstance(datamodule, AnnbatchDataModule) or not datamodule.n_val:
        return
    batches = obs_on_disk(datamodule)[datamodule.registry["setup_args"]["batch_key"]].astype(str)
    left = sorted(set(batches) - set(batches.iloc[datamodule.val_idx]))
    if left:
        warnings.warn(
            f"{len(left)} of {batches.nunique()} batches have no cells among the "
            f"{datamodule.n_val:,} for validation, the first of the collection: {_some(left)}. "
            "Early stopping does not look at them. If they are not tiny, build the collection "
            "anew with a larger `dataset_size`, within which cells are mixed.",
            UserWarning,
            stacklevel=2,
        )


def training_minibatches(datamodule: LightningDataModule) -> Minibatches:
    """Training cells, of cells on disk in their order there, the same with every reading."""
    if isinstance(datamodule, AnnbatchDataModule):
        return loaded_minibatches(datamodule, training_loader_in_order(datamodule))
    return loaded_minibatches(datamodule, datamodule.train_dataloader())


def validation_minibatches(datamodule: LightningDataModule) -> Minibatches:
    """Validation cells; nothing if there are none."""
    if not is_overridden("val_dataloader", datamodule):
        return ()
    loaders = datamodule.val_dataloader()
    if not isinstance(loaders, list | tuple):
        return loaded_minibatches(datamodule, loaders)
    if not loaders:
        return ()
    return chain.from_iterable(loaded_minibatches(datamodule, loader) for loader in loaders)


def _codes(registry: Mapping, with_labels: bool) -> dict[str, list[str]]:
    """Names in the order of their codes: genes, levels of the factors, and cell types."""
    fields: dict[str, Any] = {
        key: field["state_registry"] for key, field in registry["field_registries"].items()
    }
    crossed = fields.get(REGISTRY_KEYS.CAT_COVS_KEY, {})
    # As registered cells and as data modules name it.
    factors = crossed.get("mappings", crossed.get("mapping", {}))
    names = {
        "genes": fields[REGISTRY_KEYS.X_KEY]["column_names"],
        "batches": fields[REGISTRY_KEYS.BATCH_KEY]["categorical_mapping"],
        **{f"levels of {name}": levels for name, levels in factors.items()},
    }
    if with_labels:
        names["cell types"] = fields[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"]
    return {what: list(map(str, of)) for what, of in names.items()}


def _some(names: list[str]) -> str:
    return (", ".join(names[:5]) or "none") + (", ..." if len(names) > 5 else "")
