"""How time and memory grow with the number of cells and of batches.

python benchmarks/growth.py run   # writes results/growth.json
python benchmarks/growth.py       # prints the tables

Simulated cells with 3,000 genes, of whose values about 8% are not zero, as in real data sets;
the largest has the cells and batches of the heart data of the paper. A network is trained for one
epoch; every case has a process of its own and one thread. Memory is the most that Linux reports.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _processes import fresh_processes, one_thread, peak_memory
from _record import SOURCE, load, markdown, save, saved
from lightning.pytorch.callbacks import Callback
from scipy import sparse

import scmedal_tools as smt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED, N_GENES, N_TYPES, COUNTS = 0, 3_000, 12, 350
CELLS_AT_ONCE, N_TARGETS = 5_000, 3
TITLES = {"counterfactual means": "shifts"}
MEASURABLE = 0.5  # seconds
MANY = 147
BY_CELLS = [(n, MANY) for n in (10_000, 50_000, 200_000, 486_134)]
BY_BATCHES = [(50_000, n) for n in (10, 50, MANY, 1_000)]
NETWORKS = {"FE": smt.model.SCMEDAL_FE, "RE": smt.model.SCMEDAL_RE}
PHASES = ("set-up", "epoch", "finishing", "embeddings", "counterfactual means")


def cells(n_cells: int, n_batch: int) -> Iterator[tuple[sparse.csr_array, np.ndarray]]:
    """Parts of the log-normalised cells, with their batches; batches differ in every gene."""
    rng = np.random.default_rng(SEED)
    usual = rng.normal(0, 1.7, N_GENES)
    types = np.exp(usual + rng.normal(0, 0.7, (N_TYPES, N_GENES)))
    batches = np.exp(rng.normal(0, 0.2, (n_batch, N_GENES)).astype("float32"))
    for start in range(0, n_cells, CELLS_AT_ONCE):
        n = min(CELLS_AT_ONCE, n_cells - start)
        batch = rng.integers(n_batch, size=n)
        rates = types[rng.integers(N_TYPES, size=n)] * batches[batch]
        depth = COUNTS * rng.lognormal(0, 0.4, (n, 1))
        counts = rng.poisson(depth * rates / rates.sum(1, keepdims=True)).astype("float32")
        total = counts.sum(1, keepdims=True).clip(1)
        yield sparse.csr_array(np.log1p(1e4 * counts / total)), batch


def write(path: Path, n_cells: int, n_batch: int) -> dict:
    parts, batches = zip(*cells(n_cells, n_batch), strict=True)
    matrix = sparse.vstack(parts, format="csr")
    names = np.char.add("batch_", np.concatenate(batches).astype(str))
    obs = pd.DataFrame({"batch": pd.Categorical(names)}, index=np.arange(n_cells).astype(str))
    ad.AnnData(matrix, obs).write_h5ad(path)
    size = sum(part.nbytes for part in (matrix.data, matrix.indices, matrix.indptr))
    return {"not_zero": round(matrix.nnz / np.prod(matrix.shape), 3), "matrix_mib": size >> 20}


class Clock(Callback):
    """When the first step began, and when the epoch ended."""

    def on_train_batch_start(self, trainer, _, __, i: int) -> None:
        if i == 0:
            self.first_step = time.process_time()

    def on_train_end(self, *_) -> None:
        self.end = time.process_time()


def measure(path: Path, network: str) -> dict:
    """Processor seconds of each phase, and the memory of the process at the highest."""
    one_thread()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.seed = SEED
    adata, clock = ad.read_h5ad(path), Clock()
    seconds, peaks, start = {}, {"data": peak_memory()}, time.process_time()

    NETWORKS[network].setup_anndata(adata, batch_key="batch")
    model = NETWORKS[network](adata)
    model.train(max_epochs=1, callbacks=[clock], accelerator="cpu", enable_progress_bar=False)
    seconds["set-up"] = clock.first_step - start
    seconds["epoch"] = clock.end - clock.first_step
    seconds["finishing"] = time.process_time() - clock.end
    peaks["training"] = peak_memory()

    start = time.process_time()
    smt.tl.embed(adata, model)
    seconds["embeddings"] = time.process_time() - start
    if network == "RE":
        start = time.process_time()
        smt.tl.counterfactual_means(model, adata, model.batch_names[:N_TARGETS], progress=False)
        seconds["counterfactual means"] = time.process_time() - start
    peaks["all"] = peak_memory()
    return {
        "seconds": {phase: round(value, 1) for phase, value in seconds.items()},
        "peak_mib": {phase: round(value) for phase, value in peaks.items()},
    }


def run() -> None:
    results = saved("growth")
    with fresh_processes() as (fresh, folder):
        path = folder / "cells.h5ad"
        for n_cells, n_batch in dict.fromkeys(BY_BATCHES + BY_CELLS):
            keys = [{"cells": n_cells, "batches": n_batch, "network": name} for name in NETWORKS]
            missing = [key for key in keys if not any(key.items() <= r.items() for r in results)]
            if missing:
                about = fresh.submit(write, path, n_cells, n_batch).result()
            for key in missing:
                measured = fresh.submit(measure, path, key["network"]).result()
                results.append(key | {"commit": SOURCE["commit"]} | about | measured)
                save("growth", results)
                print(results[-1], flush=True)


def tables() -> dict[str, str]:
    results = load("growth")["results"]

    def table(cases: list[tuple[int, int]], varied: str) -> str:
        rows = []
        for network in NETWORKS:
            of = [
                row
                for case in cases
                for row in results
                if (row["cells"], row["batches"], row["network"]) == (*case, network)
            ]
            for row in of:
                seconds = row["seconds"]
                cells = {
                    phase: f"{seconds[phase]:,.1f}" if phase in seconds else "" for phase in PHASES
                }
                memory = row["peak_mib"]["all"] - row["matrix_mib"]
                rows.append({"case": f"{network}, {row[varied]:,} {varied}", **cells})
                rows[-1] |= {"matrix": f"{row['matrix_mib']:,}", "memory": f"{memory:,}"}
            first, last = of[0], of[-1]
            factor = np.log(last[varied] / first[varied])
            powers = {
                phase: f"{np.log(last['seconds'][phase] / start) / factor:.2f}"
                for phase, start in first["seconds"].items()
                if start >= MEASURABLE
            }
            blank = dict.fromkeys((*PHASES, "matrix", "memory"), "")
            rows.append(blank | {"case": f"{network}, power of the {varied}"} | powers)
        columns = {"": "{case}"}
        columns |= {TITLES.get(phase, phase): f"{{{phase}}}" for phase in PHASES}
        return markdown(rows, columns | {"matrix, MiB": "{matrix}", "all else, MiB": "{memory}"})

    return {"cells": table(BY_CELLS, "cells"), "batches": table(BY_BATCHES, "batches")}


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run()
    for title, text in tables().items():
        print(f"{title}\n{text}\n")
