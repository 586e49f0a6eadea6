"""Training from disk beside training in memory: cells per second, and memory.

python benchmarks/out_of_core.py run         # writes results/out_of_core.json
python benchmarks/out_of_core.py run 2000    # the same with fewer cells
python benchmarks/out_of_core.py             # prints the table

Cells of AML, drawn with replacement and written file by file. Every training has a process of its
own, one thread, and no early stopping; in each round all cases take turns, so that the load of the
machine is that of all. The first epoch, in which much is set up, is left out of the speed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scvi
from _processes import fresh_processes, one_thread, peak_memory
from _record import load, markdown, save
from aml import load_cells
from large_data import span
from lightning.pytorch.callbacks import Callback

import scmedal_tools as smt

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS, EPOCHS, SEED = 3, 4, 0
N_CELLS, CELLS_IN_FILE = 50_000, 10_000
MODELS = ("FE", "RE")
SOURCES = ("in memory", "from disk")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


class Clock(Callback):
    """Seconds that each epoch takes, with its validation."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_):
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_):
        self.seconds.append(round(time.perf_counter() - self.start, 3))


def prepare(folder: Path, n_cells: int) -> dict:
    """Write the files, and the collection that is made of them."""
    one_thread()
    adata = load_cells()
    cells = ad.AnnData(adata.X, adata.obs[["donor"]], adata.var[[]])
    drawn = np.random.default_rng(SEED).integers(cells.n_obs, size=n_cells)
    paths = []
    for i, rows in enumerate(np.split(drawn, range(CELLS_IN_FILE, n_cells, CELLS_IN_FILE))):
        part = cells[rows].copy()
        part.obs_names = [f"cell_{i}_{j}" for j in range(len(rows))]
        paths.append(folder / f"cells_{i}.h5ad")
        part.write_h5ad(paths[-1])
    start = time.perf_counter()
    smt.model.SCMEDAL_FE.setup_annbatch(folder / "cells.zarr", paths, batch_key="donor")
    seconds = round(time.perf_counter() - start, 1)
    return {"n_cells": n_cells, "n_genes": cells.n_vars, "seconds_to_build": seconds}


def measure(name: str, source: str, folder: Path) -> dict:
    """Time of a training, and the memory of its process at the highest."""
    one_thread()
    scvi.settings.seed = SEED
    model_class, clock, arguments = getattr(smt.model, f"SCMEDAL_{name}"), Clock(), {}
    if source == "from disk":
        cells = model_class.setup_annbatch(folder / "cells.zarr", batch_key="donor")
        model, arguments = model_class(registry=cells.registry), {"datamodule": cells}
    else:
        adata = ad.concat([ad.read_h5ad(path) for path in sorted(folder.glob("*.h5ad"))])
        model_class.setup_anndata(adata, batch_key="donor")
        model = model_class(adata)
    start = time.perf_counter()
    model.train(
        max_epochs=EPOCHS,
        early_stopping=False,
        accelerator="cpu",
        callbacks=[clock],
        **arguments,
        **QUIET,
    )
    seconds = time.perf_counter() - start
    return {
        "model": name,
        "source": source,
        "epoch_seconds": clock.seconds,
        "other_seconds": round(seconds - sum(clock.seconds), 1),
        "cells_per_second": round(len(model.train_indices) / np.mean(clock.seconds[1:])),
        "peak_mib": round(peak_memory()),
    }


def run(n_cells: int) -> None:
    results = []
    with fresh_processes() as (fresh, folder):
        about = fresh.submit(prepare, folder, n_cells).result()
        for i in range(ROUNDS):
            for model in MODELS:
                for source in SOURCES:
                    measured = fresh.submit(measure, model, source, folder).result()
                    results.append({"round": i} | measured)
                    print(results[-1], flush=True)
    save("out_of_core", results, epochs=EPOCHS, seed=SEED, **about)


def tables() -> dict[str, str]:
    results = load("out_of_core")["results"]

    def of(model: str, source: str, key: str) -> np.ndarray:
        rows = [row for row in results if (row["model"], row["source"]) == (model, source)]
        return np.array([row[key] for row in rows])

    def row(model: str, source: str) -> dict:
        speed = of(model, source, "cells_per_second")
        return {
            "case": f"{model}, {source}",
            "speed": span(speed),
            "ratio": span(speed / of(model, SOURCES[0], "cells_per_second"), ".2f"),
            "other": span(of(model, source, "other_seconds"), ".1f"),
            "memory": span(of(model, source, "peak_mib")),
        }

    columns = {
        "": "{case}",
        "cells per second": "{speed}",
        "times in memory": "{ratio}",
        "seconds beside the epochs": "{other}",
        "MiB of the process": "{memory}",
    }
    rows = [row(model, source) for model in MODELS for source in SOURCES]
    return {"training": markdown(rows, columns)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(int(sys.argv[2]) if len(sys.argv) > 2 else N_CELLS)
    print(tables()["training"])
