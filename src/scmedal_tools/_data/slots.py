"""Every name that the package writes into an AnnData or reads from a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES: Final = "states"
"""Registry key of cell states that are given, for :class:`scmedal_tools.model.SCMEDAL_RE`."""

COUNTS_LAYER: Final = "counts"
"""Layer in which :func:`scmedal_tools.pp.preprocess` keeps the raw counts."""

TOTAL_COUNTS: Final = "total_counts_all_genes"
"""``obs`` column in which it keeps the counts of each cell over all genes."""

OF_SCVI: Final = "_scvi"
"""Names that begin so are scvi-tools' own, and not offered to users."""


def without_those_of_scvi[Name](names: Iterable[Name]) -> list[Name]:
    """Names of columns that may be offered."""
    return [name for name in names if not str(name).startswith(OF_SCVI)]


PCA: Final = "X_pca"
FE_LATENT: Final = "X_scmedal_fe"
FEC_LATENT: Final = "X_scmedal_fec"
RE_LATENT: Final = "X_scmedal_re"

UMAP_PREFIX: Final = "X_umap_"
"""``obsm`` prefix of an embedding's two-dimensional UMAP, followed by the embedding's name."""

UMAP_SOURCES: Final = "scmedal_umap"
"""``uns`` entry: of each UMAP that was written, its embedding, and the digest of its values."""

PROVENANCE: Final = "scmedal"
"""``uns`` entry: a dictionary with one record for each embedding that was written."""

PREPROCESSING: Final = "scmedal_preprocess"
"""``uns`` entry: the parameters of :func:`scmedal_tools.pp.preprocess`, and what the values were
taken for by ``scmedal run``."""

GENOMAP: Final = "genomap"
"""``uns`` entry: the layout of :func:`scmedal_tools.tl.genomap_layout`."""

TRUE_EXPRESSION: Final = "true_expression"
"""``varm`` entry of simulated data: expected log-normalised expression, a column per scenario."""
