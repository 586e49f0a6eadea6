"""Checks of what a cross-validation is asked for, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from scmedal_tools._data import (
    check_cells,
    check_counts,
    check_in_memory,
    check_log_normalised,
    check_obs,
    embedding_of,
    slots,
)
from scmedal_tools._how_to_install import how_to_install
from scmedal_tools.bm._scores._scores import columns_to_score

from ._embedders import COMPARATORS, ONE_EPOCH, OWN_MODELS, PERMUTED, RE, RE_CONTROLS
from ._mixing_classifier import BATCH_LABEL, CHANCE, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import pandas as pd
    from anndata import AnnData

NEED_COUNTS: Final = frozenset({"scvi", "scanvi"})
PACKAGE_OF: Final = {"harmony": "harmonypy", "scanorama": "scanorama"}


def as_list(names: str | Sequence[str]) -> list[str]:
    """Names, each once; a single one may stand by itself."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def check_input(
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    target_keys: Sequence[str],
    models: Mapping[str, str | Callable],
    settings: Mapping[str, dict[str, Any]] | None,
    scib: bool,
) -> None:
    """Refuse settings that would fail only after hours."""
    check_in_memory(adata)
    check_log_normalised(adata)
    named = [("batch_key", batch_key), ("labels_key", labels_key)]
    for what, key in (*named, *(("target_keys", key) for key in target_keys)):
        check_obs(adata, key, what)
    if batch_key == labels_key:
        raise ValueError(
            f"batch_key and labels_key are both {batch_key!r}: name the column of the cell types, "
            "whose separation is scored beside the mixing of batches."
        )
    unknown = [name for name in settings or {} if name not in models]
    if unknown:
        raise ValueError(f"settings has {unknown}, which are none of the models {list(models)}.")
    used = [method for method in models.values() if isinstance(method, str)]
    needed = {PACKAGE_OF[method] for method in used if method in PACKAGE_OF}
    needed |= {"scib_metrics"} if scib else set()
    missing = sorted(package for package in needed if find_spec(package) is None)
    if missing:
        raise ImportError(f"Not installed: {', '.join(missing)}. {how_to_install('benchmark')}")
    for layer in layers_used(models, settings):
        check_counts(adata, layer)
    for key in used:
        if key in adata.obsm:
            embedding_of(adata, key)


def layers_used(
    models: Mapping[str, str | Callable], settings: Mapping[str, dict[str, Any]] | None
) -> list[str]:
    """Layers with the counts that models are given."""
    given = {
        name: (settings or {}).get(name, {}) for name, m in models.items() if m in NEED_COUNTS
    }
    return sorted({of_model.get("layer", slots.COUNTS_LAYER) for of_model in given.values()})


def check_folds(
    obs: pd.DataFrame,
    scored_keys: Sequence[str],
    target_keys: Sequence[str],
    splits: Mapping[int, Sequence[np.ndarray]],
    scored: Mapping[int, np.ndarray],
    scib: bool,
) -> None:
    """Refuse folds that could be embedded but not judged."""
    for i, (train, _, _) in splits.items():
        columns_to_score(obs.iloc[scored[i]], scored_keys, scib)
        for key in target_keys:
            names = obs[key].iloc[train].unique()
            if len(names) < 2:
                raise ValueError(
                    f"All training cells of fold {i} have the {key!r} {names[0]!r}: nothing to "
                    "learn. Take other folds, or leave the target out."
                )


def methods(
    models: Sequence[str] | Mapping[str, str | Callable], adata: AnnData, controls: bool
) -> dict[str, str | Callable]:
    """What is compared, by name."""
    check_cells(adata)
    made_of: dict[str, str | Callable] = (
        dict(models) if isinstance(models, Mapping) else {name: name for name in as_list(models)}
    )
    if not made_of:
        raise ValueError("models is empty: name what to compare, for example ['pca', 'FE', 'RE'].")
    known = {*OWN_MODELS, *COMPARATORS, *adata.obsm}
    unknown = [
        method for method in made_of.values() if not callable(method) and method not in known
    ]
    if unknown:
        raise ValueError(
            f"models has {unknown}, which are neither models ({', '.join(OWN_MODELS)}), nor "
            f"comparators ({', '.join(sorted(COMPARATORS))}), nor in adata.obsm "
            f"({', '.join(adata.obsm)})."
        )
    both = [m for m in made_of.values() if isinstance(m, str)]
    both = [m for m in both if m in adata.obsm and (m in COMPARATORS or m in OWN_MODELS)]
    if both:
        raise ValueError(
            f"{both} are methods, and embeddings in adata.obsm too: rename these, for example to "
            f"'{both[0]}_joint'."
        )
    if any((method == RE) != (name == RE) for name, method in made_of.items()):
        raise ValueError("The name 'RE' is reserved for RE: its controls are named after it.")
    taken = sorted({BATCH_LABEL, CHANCE, *RE_CONTROLS} & set(made_of))
    taken += [name for name in made_of if SEPARATOR in name or "/" in name]
    if taken:
        raise ValueError(f"{taken} are not names for models: the results use them, ' + ' or '/'.")
    twins = [name for name in made_of if f"X_{name}" in made_of]
    if twins:
        raise ValueError(
            f"models has both {twins[0]!r} and 'X_{twins[0]}', whose UMAPs would have one name: "
            f"give one another name, for example {{'{twins[0]}_joint': 'X_{twins[0]}'}}."
        )
    if controls and RE in made_of:
        made_of |= {PERMUTED: PERMUTED, ONE_EPOCH: ONE_EPOCH}
    return made_of


def name_and_version(name: str, method: str | Callable, *, kept: bool) -> str:
    """Name of a method; of a function, its version.

    Parameters
    ----------
    name
        Name that the method has in the results.
    method
        Name of a model, comparator or embedding, or a function.
    kept
        Whether its results are kept for a later call, which has to know what they are of.
    """
    if not callable(method):
        return method
    version = getattr(method, "version", None)
    if kept and version is None:
        raise ValueError(
            f"models: {name!r} is a function, and `out` keeps results to resume from. Give it a "
            "version, and change that with the function: function.version = '1'"
        )
    return f"{name} {version}"
