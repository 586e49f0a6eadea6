"""The scores of scib-metrics, an optional package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools._how_to_install import how_to_install

if TYPE_CHECKING:
    from types import ModuleType

# As in scib-metrics' own benchmark: of LISI, kBET and graph connectivity.
N_LISI, N_KBET, N_GRAPH = 90, 50, 15


def import_scib() -> ModuleType:
    """Import scib-metrics, or say how to get it."""
    try:
        import scib_metrics
    except ImportError as error:
        raise ImportError(
            f"scib=True needs scib-metrics. {how_to_install('benchmark')}"
        ) from error
    return scib_metrics


def scib_scores(
    x: np.ndarray, batches: np.ndarray, labels: np.ndarray, seed: int
) -> list[tuple[str, str, float]]:
    """Metric, what it is of, and value, of cells x dimensions; between 0 and 1, high is good."""
    scib = import_scib()
    x = np.ascontiguousarray(x, dtype=np.float32)
    nearest = scib.nearest_neighbors.pynndescent(x, n_neighbors=N_LISI, random_state=seed)
    for_kbet, for_graph = (nearest.subset_neighbors(n) for n in (N_KBET, N_GRAPH))
    values = {
        ("iLISI", "batch"): scib.ilisi_knn(nearest, batches),
        ("BRAS", "batch within label"): scib.bras(x, labels, batches),
        ("kBET", "batch within label"): scib.kbet_per_label(for_kbet, batches, labels),
        ("cLISI", "label"): scib.clisi_knn(nearest, labels),
        ("graph connectivity", "label"): scib.graph_connectivity(for_graph, labels),
        ("isolated labels", "label"): scib.isolated_labels(x, labels, batches),
    }
    return [(metric, of, float(value)) for (metric, of), value in values.items()]
