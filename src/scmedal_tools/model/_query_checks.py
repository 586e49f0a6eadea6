"""Checks of data that a trained model has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from scvi import REGISTRY_KEYS

from scmedal_tools._data import (
    BATCH,
    CELL_STATES,
    EXPRESSION,
    FACTORS,
    LABELS,
    STATES,
    check_log_normalised,
    check_names,
    check_obs,
    checked_part,
    layer_of,
    read_first,
    same_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData


def levels_of_factors(registry: Mapping[str, Any]) -> dict[str, pd.Index]:
    """Levels of the batch and of the further factors that a model was registered with."""
    trained = {key: field["state_registry"] for key, field in registry["field_registries"].items()}
    setup = registry.get("setup_args") or {}
    batches = trained[REGISTRY_KEYS.BATCH_KEY]
    factors = {setup.get("batch_key", "batch"): pd.Index(batches["categorical_mapping"])}
    crossed = trained.get(REGISTRY_KEYS.CAT_COVS_KEY, {})
    for key, levels in crossed.get("mappings", {}).items():
        factors[key] = pd.Index(levels)
    return factors


def check_query(data: AnnData | MuData, registry: Mapping[str, Any], unseen: bool = False) -> None:
    """Refuse cells that do not fit the data whose registry a model keeps.

    Parameters
    ----------
    data
        New cells.
    registry
        What the model keeps of its training data.
    unseen
        Whether batches, and levels of further factors, may be new.

    Raises
    ------
    ValueError
        If genes differ in kind or order, a batch or cell type is missing or was not trained on,
        the expression is not log-normalised, or a modality is missing.
    """
    trained = {key: field["state_registry"] for key, field in registry["field_registries"].items()}
    setup = registry["setup_args"]
    with checked_part(data, setup, EXPRESSION) as adata:
        check_names(adata)
        # Before the genes: counts have to be normalised by the total of all genes.
        check_log_normalised(adata, layer_of(setup), may_be_few=True)
        _check_genes(adata, pd.Index(trained[REGISTRY_KEYS.X_KEY]["column_names"]))
    for factor, levels in levels_of_factors(registry).items():
        argument = BATCH if factor == setup["batch_key"] else FACTORS
        with checked_part(data, setup, argument) as adata:
            _check_levels(adata, factor, levels, unseen)
    if setup["labels_key"] is not None:
        with checked_part(data, setup, LABELS) as adata:
            labels = trained[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"]
            unlabeled = setup["unlabeled_category"]
            _check_labels(adata, setup["labels_key"], pd.Index(labels), unlabeled)
    if setup.get("states_key"):
        with checked_part(data, setup, CELL_STATES) as adata:
            check_obs(adata, setup["states_key"], what=CELL_STATES, min_levels=1)
            _check_states(adata.obs[setup["states_key"]], trained[STATES]["categorical_mapping"])


def _check_states(states: pd.Series, trained: Sequence) -> None:
    new = pd.Index(states.unique()).difference(pd.Index(trained))
    if len(new):
        raise ValueError(
            f"{states.name!r} has states that the model was not trained on: "
            f"{', '.join(map(str, new[:5]))}. Give these cells one of "
            f"{', '.join(map(str, trained[:20]))}, or leave them out."
        )


def _check_genes(adata: AnnData, trained: pd.Index) -> None:
    if same_names(adata.var_names, trained):
        return
    check_has_genes(adata, trained)
    message = (
        "The genes are those of the training data, in another order or with others between "
        "them. Bring them into order:\n    adata = adata[:, model.gene_names].copy()"
    )
    raise ValueError(read_first(adata, message))


def check_has_genes(adata: AnnData, trained: pd.Index) -> None:
    """Refuse cells in which genes that a model was trained on are missing."""
    missing = trained.difference(adata.var_names)
    if len(missing):
        message = (
            f"{len(missing):,} of the {len(trained):,} genes that the model was trained on are "
            f"missing in adata ({', '.join(map(str, missing[:3]))}, ...). Log-normalise all genes "
            "of the new cells, without selecting variable genes, and then take the model's:\n"
            "    adata = adata[:, model.gene_names].copy()"
        )
        raise ValueError(read_first(adata, message))


def _check_levels(adata: AnnData, key: str, trained: pd.Index, unseen: bool) -> None:
    if key not in adata.obs:
        raise ValueError(
            f"adata.obs has no column {key!r}, on which the model was trained. Add it:\n"
            f"    adata.obs[{key!r}] = ..."
        )
    levels = adata.obs[key]
    if levels.isna().any():
        message = (
            f"adata.obs[{key!r}] is missing for {levels.isna().sum():,} cells. To drop them:\n"
            f"    adata = adata[adata.obs[{key!r}].notna()].copy()"
        )
        raise ValueError(read_first(adata, message))
    unknown = [level for level in levels.unique() if level not in trained]
    by_text = dict(zip(trained.astype(str), trained, strict=True))
    same_text = [level for level in unknown if str(level) in by_text]
    if same_text:
        raise ValueError(
            f"adata.obs[{key!r}] has {same_text[0]!r}, and the model was trained on "
            f"{by_text[str(same_text[0])]!r}: give them the same type, for example with "
            f"adata.obs[{key!r}].astype(...)."
        )
    if unseen and unknown:
        try:
            sorted([trained[0], *unknown])  # as registration does
        except TypeError:
            kinds = " and ".join(sorted({type(x).__name__ for x in (trained[0], *unknown)}))
            raise ValueError(
                f"adata.obs[{key!r}] and the levels that the model was trained on are of types "
                f"that cannot be sorted together ({kinds}). Give new levels the type of the "
                "others, or train on text."
            ) from None
    new = [str(level) for level in unknown]
    if len(new) and not unseen:
        raise ValueError(
            f"The model was not trained on {len(new)} of the levels of adata.obs[{key!r}]: "
            f"{', '.join(new[:5])}. It knows: "
            f"{', '.join(map(str, trained[:10]))}{', ...' if len(trained) > 10 else ''}. "
            "Pass unseen_batch='population' to treat their cells as if from the average batch, or "
            "'prior' and n_samples to draw their effects; SCMEDAL_RE.load_query_data learns them."
        )


def _check_labels(
    adata: AnnData, labels_key: str, trained: pd.Index, unlabeled_category: str
) -> None:
    remedy = (
        "The model does not read the cell types of new cells; mark them as not known:\n"
        f"    adata.obs[{labels_key!r}] = {unlabeled_category!r}"
    )
    if labels_key not in adata.obs:
        raise ValueError(f"adata.obs has no column {labels_key!r}. {remedy}")
    unknown = ~adata.obs[labels_key].isin(trained)
    if unknown.any():
        examples = adata.obs[labels_key][unknown].unique()[:3]
        raise ValueError(
            f"{unknown.sum():,} cells have an adata.obs[{labels_key!r}] that the model was not "
            f"trained on: {', '.join(map(str, examples))}. {remedy}"
        )
