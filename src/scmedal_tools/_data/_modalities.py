"""Where a model finds its cells: in an AnnData, or in the modalities of a MuData."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mudata import MuData

from ._check_cells import check_cells, check_read, same_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from anndata import AnnData

EXPRESSION = "rna_layer"
BATCH = "batch_key"
LABELS = "labels_key"
FACTORS = "random_effect_keys"
CELL_STATES = "states_key"


def check_modalities(
    mdata: MuData, modalities: Mapping[str, str] | None, labels_key: str | None
) -> None:
    """Refuse a mapping that does not say where the expression is.

    Raises
    ------
    ValueError
        If there is no mapping, it has unknown arguments, or no modality for the expression.
    """
    arguments = (EXPRESSION, BATCH, LABELS) if labels_key is not None else (EXPRESSION, BATCH)
    name = "rna" if not isinstance(mdata, MuData) or "rna" in mdata.mod else next(iter(mdata.mod))
    example = f"For example:\n    modalities={dict.fromkeys(arguments, name)}"
    if not modalities or modalities.get(EXPRESSION) is None:
        raise ValueError(
            f"modalities has no {EXPRESSION!r}: name the modality with the expression, and those "
            f"with the columns of obs (without, they are columns of mdata.obs). {example}"
        )
    unknown = sorted(modalities.keys() - {EXPRESSION, BATCH, LABELS, FACTORS, CELL_STATES})
    if unknown:
        raise ValueError(
            f"modalities has unknown keys {unknown}: they are arguments of setup_mudata, and "
            f"their values names of modalities. {example}"
        )


def layer_of(setup: Mapping[str, Any]) -> str | None:
    """Layer with the expression, under the name that either registration gives it."""
    return setup["rna_layer" if "modalities" in setup else "layer"]


def part_of(data: AnnData | MuData, setup: Mapping[str, Any], argument: str) -> AnnData | MuData:
    """Find what holds the expression, the batches or the cell types.

    Parameters
    ----------
    data
        Cells, as they are given to a model.
    setup
        Arguments with which the model's data were registered.
    argument
        ``"rna_layer"``, ``"batch_key"``, ``"labels_key"`` or ``"random_effect_keys"``.

    Returns
    -------
    The AnnData itself; of a MuData the modality, or the MuData if none is named for ``argument``.

    Raises
    ------
    TypeError
        If these are no cells.
    ValueError
        If the AnnData is read lazily, there is no such modality, its cells are not those of the
        MuData in the same order, or the model was registered with an object of the other kind.
    """
    if "modalities" not in setup:
        if isinstance(data, MuData):
            raise ValueError(
                "This is a MuData, and an AnnData is needed: pass one modality, such as "
                "mdata['rna'], or register with setup_mudata(mdata, batch_key=..., "
                "modalities={'rna_layer': 'rna', 'batch_key': 'rna'})."
            )
        if data is not None:
            check_cells(data)
            check_read(data.obs)
        return data
    name = setup["modalities"].get(argument)
    if not isinstance(data, MuData):
        raise ValueError(
            f"This is {type(data).__name__}, and a MuData with the modality "
            f"{setup['modalities'][EXPRESSION]!r} is needed: pass one, or register with "
            "setup_anndata(adata, batch_key=...)."
        )
    if name is None:
        return data
    if name not in data.mod:
        raise ValueError(
            f"modalities has {argument!r}: {name!r}, but the modalities of mdata are "
            f"{', '.join(map(repr, data.mod))}."
        )
    found = data.mod[name]
    if not same_names(found.obs_names, data.obs_names):
        raise ValueError(
            f"The {found.n_obs:,} cells of mdata[{name!r}] are not the {data.n_obs:,} of mdata, "
            "in the same order: other modalities have more cells or come first. Run:\n"
            f"    mdata = mdata[mdata[{name!r}].obs_names].copy()"
        )
    return found


@contextmanager
def checked_part(
    data: AnnData | MuData, setup: Mapping[str, Any], argument: str
) -> Iterator[AnnData | MuData]:
    """Find a part as :func:`part_of`, and let errors of its checks name it."""
    found = part_of(data, setup, argument)
    try:
        yield found
    except ValueError as error:
        if not isinstance(data, MuData):
            raise
        if found is data:
            where = f"In adata = mdata (modalities has no {argument!r}): {error}"
        else:
            name = repr(setup["modalities"][argument])
            put_back = f"mdata.mod[{name}] = adata; mdata.update()"
            where = f"In adata = mdata[{name}]: {error}\nThen put it back: {put_back}"
        raise ValueError(where) from None


def as_named(levels: pd.Series) -> pd.Series:
    """Levels of cells as text, as targets are named: ``.astype(str)`` writes dates otherwise."""
    return levels.map(str).astype(str)
