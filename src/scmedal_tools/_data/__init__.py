"""What all parts read from an AnnData, check in it, and write into it."""

from ._check_cells import (
    check_anndata,
    check_cells,
    check_in_memory,
    check_not_backed,
    check_read,
    expression_of,
    read_first,
    stays_on_disk,
)
from ._checks import (
    LOGARITHMS,
    ExpressionError,
    check_counts,
    check_factors,
    check_interval,
    check_labels,
    check_log_normalised,
    check_names,
    check_obs,
    warn_of_doubt,
    warn_of_small_batches,
)
from ._dense import dense
from ._depth import UNEQUAL_DEPTH, cell_depth, depth_ratio, extent, warn_of_depth
from ._embeddings import check_embeddings, digest_of, embedding_of
from ._expression_kinds import summarise_expression
from ._expression_messages import COUNTS, available_layers, doubt, what_it_holds, where
from ._fingerprint import fingerprint, sample_digest
from ._indexing import positions_of, random_cells, rows_of
from ._kept_settings import SETTINGS, keep_settings, other_settings
from ._modalities import (
    BATCH,
    CELL_STATES,
    EXPRESSION,
    FACTORS,
    LABELS,
    as_named,
    check_modalities,
    checked_part,
    layer_of,
    part_of,
)
from ._selected_genes import warn_of_selected_genes
from ._size_factors import size_factors
from ._write_csv import without_formulas, write_csv
from ._writing import (
    check_key,
    check_writable,
    make_names_writable,
    remove_unfinished,
    write_whole,
)
from .slots import STATES

__all__ = [
    "BATCH",
    "CELL_STATES",
    "COUNTS",
    "EXPRESSION",
    "FACTORS",
    "LABELS",
    "LOGARITHMS",
    "SETTINGS",
    "STATES",
    "UNEQUAL_DEPTH",
    "ExpressionError",
    "as_named",
    "available_layers",
    "cell_depth",
    "check_anndata",
    "check_cells",
    "check_counts",
    "check_embeddings",
    "check_factors",
    "check_in_memory",
    "check_interval",
    "check_key",
    "check_labels",
    "check_log_normalised",
    "check_modalities",
    "check_names",
    "check_not_backed",
    "check_obs",
    "check_read",
    "check_writable",
    "checked_part",
    "dense",
    "depth_ratio",
    "digest_of",
    "doubt",
    "embedding_of",
    "expression_of",
    "extent",
    "fingerprint",
    "keep_settings",
    "layer_of",
    "make_names_writable",
    "other_settings",
    "part_of",
    "positions_of",
    "random_cells",
    "read_first",
    "remove_unfinished",
    "rows_of",
    "sample_digest",
    "size_factors",
    "stays_on_disk",
    "summarise_expression",
    "warn_of_depth",
    "warn_of_doubt",
    "warn_of_selected_genes",
    "warn_of_small_batches",
    "what_it_holds",
    "where",
    "without_formulas",
    "write_csv",
    "write_whole",
]
