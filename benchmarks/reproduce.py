"""Time and memory of `scmedal reproduce heart`: what an epoch costs, and what comes after.

python benchmarks/reproduce.py run   # writes results/reproduce.json
python benchmarks/reproduce.py       # prints the tables

Simulated sparse cells with the width of the heart (3,000 genes, 147 batches), the paper's networks
(preset "paper-heart"), three fifths of the cells for training and one fifth each for validation
and test, one thread. Every size and part has a process of its own; its memory is the highest that
the system reports of the process. Only processor seconds are shown: other programs ran beside.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from _record import load, markdown, save

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad

SIZES = (2_000, 4_000, 8_000, 16_000)
WIDTH = {"genes": 3000, "batches": 147, "cell_types": 13, "tissues": 6, "not_zero": 0.1}
HEART = {"cells": 486_134, "epochs": 500, "folds": 5}
N_SCORED, N_LATENT, SEED = 10_000, 50, 0
PARTS = ("FE", "RE", "forest")
EPOCH, AROUND, LATENT = "one epoch", "before and after the epochs", "latent of all cells"
FOREST = "one random forest"
SCORES, UMAP = "scores of one embedding", "UMAP of one embedding"


def simulated(n_cells: int) -> ad.AnnData:
    """Sparse log-normalised expression, whose values make no difference to times."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(SEED)
    n_genes = WIDTH["genes"]
    n_each = int(WIDTH["not_zero"] * n_genes)
    # A few cells at a time, so that the data are what takes the memory and not their making.
    genes = [
        np.argpartition(rng.random((len(some), n_genes), dtype=np.float32), n_each)[
            :, :n_each
        ].astype(np.int32)
        for some in np.array_split(np.arange(n_cells), max(1, n_cells // 500))
    ]
    at = np.concatenate([part.ravel() for part in genes])
    values = rng.random(at.size, dtype=np.float32)
    starts = np.arange(n_cells + 1, dtype=np.int32) * n_each
    x = sparse.csr_matrix((values, at, starts), shape=(n_cells, n_genes))
    x.sort_indices()
    columns = {"batch": "batches", "cell_type": "cell_types", "tissue": "tissues"}
    levels = {
        c: rng.integers(WIDTH[what], size=n_cells).astype(str) for c, what in columns.items()
    }
    levels["batch"] = (np.arange(n_cells) % WIDTH["batches"]).astype(str)
    obs = pd.DataFrame(levels, index=[f"cell_{i}" for i in range(n_cells)], dtype="category")
    return ad.AnnData(x, obs)


def measure(part: str, n_cells: int) -> list[dict]:
    """Processor seconds of a part, and the memory of this process at the highest."""
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    found: list[dict] = []
    if part == "constant":
        of_scored_cells(found)
    elif part == "forest":
        of_forest(found, n_cells)
    else:
        of_model(found, part, n_cells)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [row | {"part": part, "cells": n_cells, "peak_mib": round(peak)} for row in found]


def of_model(found: list[dict], name: str, n_cells: int) -> None:
    import numpy as np
    import scvi
    from lightning.pytorch.callbacks import LambdaCallback

    import scmedal_tools as smt

    adata = simulated(n_cells)
    scvi.settings.seed = SEED
    cls = getattr(smt.model, f"SCMEDAL_{name}")
    cls.setup_anndata(adata, batch_key="batch")
    model = cls(adata, preset="paper-heart")
    ends = np.cumsum([3 * n_cells // 5, n_cells // 5])
    splits = np.split(np.random.default_rng(SEED).permutation(n_cells), ends)
    times: list[float] = []
    hook = LambdaCallback(
        on_train_epoch_start=lambda *_: times.append(time.process_time()),
        on_train_epoch_end=lambda *_: times.append(time.process_time()),
    )
    start = time.process_time()
    model.train(
        max_epochs=1, accelerator="cpu", callbacks=[hook],
        datasplitter_kwargs={"external_indexing": splits},
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    whole, epoch = time.process_time() - start, times[1] - times[0]
    found.append({"what": EPOCH, "cpu_seconds": epoch})
    found.append({"what": AROUND, "cpu_seconds": whole - epoch})
    with timed(found, LATENT):
        model.get_latent_representation()


def of_forest(found: list[dict], n_cells: int) -> None:
    """Tissue from two latents side by side: training cells of a fold, and its test cells."""
    import numpy as np

    from scmedal_tools.bm._cross_validation._mixing_classifier import classify

    adata = simulated(n_cells)
    rng = np.random.default_rng(SEED)
    latents = rng.normal(size=(n_cells, 2 * N_LATENT)).astype(np.float32)
    cells = rng.permutation(n_cells)
    splits = np.split(cells, np.cumsum([3 * n_cells // 5, n_cells // 5]))
    batches = adata.obs["batch"].astype(str).to_numpy()
    features = iter([("latents", latents)])
    with timed(found, FOREST):
        classify(features, adata, "tissue", splits, batches, n_trees=100, n_jobs=1, seed=SEED)


def of_scored_cells(found: list[dict]) -> None:
    """What does not grow: no more than 10,000 test cells are scored and drawn."""
    import numpy as np

    import scmedal_tools as smt

    adata = simulated(N_SCORED)
    latent = np.random.default_rng(SEED).normal(size=(N_SCORED, N_LATENT)).astype(np.float32)
    adata.obsm["X_latent"] = latent
    with timed(found, SCORES):
        smt.bm.scores(adata, ["X_latent"], "batch", "cell_type")
    with timed(found, UMAP):
        smt.tl.umap(adata, "X_latent")


@contextmanager
def timed(found: list[dict], what: str) -> Iterator[None]:
    start = time.process_time()
    yield
    found.append({"what": what, "cpu_seconds": time.process_time() - start})


def run() -> None:
    results: list[dict] = []
    cases = [*((part, n) for n in SIZES for part in PARTS), ("constant", N_SCORED)]
    context = get_context("forkserver")  # fresh processes that need not import all again
    context.set_forkserver_preload(["scmedal_tools.bm"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as fresh:
        for case in cases:
            results += fresh.submit(measure, *case).result()
            print(results[-1], flush=True)
    save("reproduce", results, width=WIDTH, heart=HEART, preset="paper-heart")


def line(points: list[dict], key: str) -> tuple[float, float]:
    """Intercept and slope of a line through the sizes."""
    import numpy as np

    slope, intercept = np.polyfit([p["cells"] for p in points], [p[key] for p in points], 1)
    return float(intercept), float(slope)


def growth(points: list[dict], key: str) -> float:
    """Power of the number of cells from the second to the last size: 1 is proportional."""
    import numpy as np

    of = points[1], points[-1]
    values, sizes = np.log([[p[key] for p in of], [p["cells"] for p in of]])
    return float(np.diff(values)[0] / np.diff(sizes)[0])


def row_of(title: str, points: list[dict], key: str, digits: int) -> dict:
    intercept, slope = line(points, key)
    values = {f"at {p['cells']}": f"{p[key]:,.{digits}f}" for p in points}
    power, last = growth(points, key), points[-1]
    heart = intercept + slope * HEART["cells"]
    if power > 1:  # a line through the sizes would be too low
        heart = last[key] * (HEART["cells"] / last["cells"]) ** power
    return values | {"what": title, "growth": power, "heart": heart}


def tables() -> dict[str, str]:
    results = load("reproduce")["results"]
    parts = [(name, what) for name in ("FE", "RE") for what in (EPOCH, AROUND, LATENT)]
    parts.append(("forest", FOREST))
    of = {pair: [r for r in results if (r["part"], r["what"]) == pair] for pair in parts}
    seconds = []
    for (part, what), points in of.items():
        title = what if part == "forest" else f"{part}, {what}"
        seconds.append(row_of(title, points, "cpu_seconds", 1))
    memory = [row_of(n, of[n, EPOCH], "peak_mib", 0) for n in ("FE", "RE")]
    sizes = {f"{n:,} cells": f"{{at {n}}}" for n in SIZES}
    end = {"grows with the power": "{growth:.2f}"}
    epochs = {n: next(r for r in seconds if r["what"] == f"{n}, {EPOCH}") for n in ("FE", "RE")}
    fe, re = (epochs[name]["heart"] for name in ("FE", "RE"))
    # AE, AEC and FEC have FE's network, and RE is trained once more on permuted labels.
    networks = {
        "FE": fe,
        "RE": re,
        "all six trainings, AE, AEC and FEC taken as FE": 4 * fe + 2 * re,
    }
    estimates = [
        {"network": name, "minutes": of_epoch / 60, "days": days(of_epoch)}
        for name, of_epoch in networks.items()
    ]
    constant = [r for r in results if r["part"] == "constant"]
    return {
        "seconds": markdown(
            seconds, {"processor seconds": "{what}"} | sizes | end | {"heart": "{heart:,.0f}"}
        ),
        "memory": markdown(
            [row | {"gib": row["heart"] / 1024} for row in memory],
            {"MiB of the process": "{what}"} | sizes | {"heart, GiB": "{gib:.0f}"},
        ),
        "constant": markdown(
            constant, {"10,000 cells": "{what}", "processor seconds": "{cpu_seconds:.0f}"}
        ),
        "heart": markdown(
            estimates,
            {
                "heart": "{network}",
                "one epoch, minutes": "{minutes:.1f}",
                "500 epochs in 5 folds, days": "{days:,.0f}",
            },
        ),
    }


def days(seconds: float) -> float:
    return seconds * HEART["epochs"] * HEART["folds"] / 86_400


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run"]:
            run()
        case _:
            for name, table in tables().items():
                print(f"{name}\n{table}\n")
