"""Layouts of genomaps: how long they take, and how near correlated genes get to each other.

python benchmarks/genomaps.py run           # AML, 20 x 20 to 54 x 54: results/genomaps.json
python benchmarks/genomaps.py               # prints the tables

The original package is compared where it is installed (extra genomap-reference). This file is not
named as the package, which it would hide.
"""

from __future__ import annotations

import sys
import time
import warnings
from importlib.util import find_spec

import anndata as ad
import numpy as np
from _record import data_folder, load, markdown, save

import scmedal_tools as smt
from scmedal_tools.tl._genomap_layout import gene_dissimilarity
from scmedal_tools.tl._gromov_wasserstein import kl_loss, stress

SIDES = (20, 32, 54)
N_CELLS = 2000
N_NEAREST, NEAR = 15, 3  # genes, pixels
# All 1,000 iterations of its default would take hours at 54 x 54.
REFERENCE_ITERATIONS = {20: 200, 32: 200, 54: 20}
LAYOUTS = ("random", "rings", "grid", "genomap")


def few_cells(n_genes: int) -> ad.AnnData:
    """Some AML cells with the genes that vary most in them: none is constant."""
    adata = ad.read_h5ad(data_folder() / "aml_vangalen2019_d0.h5ad")
    chosen = np.random.default_rng(0).choice(adata.n_obs, N_CELLS, replace=False)
    adata = adata[np.sort(chosen)].copy()
    smt.pp.preprocess(adata, batch_key=None, n_top_genes=n_genes)
    return adata


def positions_of(adata: ad.AnnData, layout: str, side: int) -> np.ndarray:
    if layout == "random":
        pixels = np.random.default_rng(0).permutation(side * side)
        return np.stack(np.divmod(pixels, side), axis=1)
    options = {"max_iter": REFERENCE_ITERATIONS[side]} if layout == "genomap" else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The original genomap package")
        smt.tl.genomap_layout(adata, (side, side), layout, progress=False, **options)
    return adata.uns["genomap"]["pixels"].to_numpy()


def measures(dissimilarity: np.ndarray, positions: np.ndarray, side: int) -> dict[str, float]:
    """Objectives of both layouts, and what becomes of neighbours in the plane."""
    centred = positions - (side - 1) / 2
    radii = np.hypot(*centred.T)
    distance = np.hypot(*(centred[:, None] - centred).transpose(2, 0, 1))
    pairs = np.triu_indices(len(centred), 1)
    others = dissimilarity + 10 * np.eye(len(centred))
    nearest = np.argpartition(others, N_NEAREST, axis=1)[:, :N_NEAREST]
    of_nearest = np.take_along_axis(distance, nearest, axis=1)
    return {
        "kl": kl_loss(dissimilarity, np.abs(radii[:, None] - radii)),
        "stress": stress(dissimilarity, distance),
        "correlation": float(np.corrcoef(dissimilarity[pairs], distance[pairs])[0, 1]),
        "near": float((of_nearest <= NEAR).mean()),
        "median_distance": float(np.median(of_nearest)),
    }


def run() -> None:
    results = []
    if find_spec("genomap"):
        import genomap  # noqa: F401  its import, of many seconds, is not the layout's time
    for side in SIDES:
        adata = few_cells(side * side)
        dissimilarity = gene_dissimilarity(adata.X)
        for layout in LAYOUTS if find_spec("genomap") else LAYOUTS[:-1]:
            start, cpu = time.perf_counter(), time.process_time()
            positions = positions_of(adata, layout, side)
            seconds = {
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - cpu,
            }
            row = {"side": side, "layout": layout, **seconds}
            results.append(row | measures(dissimilarity, positions, side))
            print(results[-1], flush=True)
            iterations = {str(s): n for s, n in REFERENCE_ITERATIONS.items()}
            save("genomaps", results, n_cells=N_CELLS, reference_iterations=iterations)


def tables() -> dict[str, str]:
    rows = load("genomaps")["results"]
    columns = {
        "grid": "{side} x {side}",
        "layout": "{layout}",
        "KL loss of rings": "{kl:.4f}",
        "stress in the plane": "{stress:.4f}",
        "correlation": "{correlation:.2f}",
        "15 nearest genes within 3 pixels, %": "{percent:.1f}",
        "processor seconds": "{cpu_seconds:.1f}",
        "seconds": "{seconds:.1f}",
    }
    return {"layouts": markdown([row | {"percent": 100 * row["near"]} for row in rows], columns)}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run"]:
            run()
        case _:
            print(*tables().values(), sep="\n\n")
