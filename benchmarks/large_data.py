"""Memory and time of counterfactuals on disk and in memory, and of sparse and dense cells.

python benchmarks/large_data.py run   # writes results/large_data.json
python benchmarks/large_data.py       # prints the tables

Simulated cells, networks trained for one epoch, one thread. Every case has a process of its own;
its memory is the highest that Linux reports of the process. Each round runs all cases in turn, so
that the load of the machine is that of all.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scvi
from _processes import fresh_processes, one_thread, peak_memory
from _record import load, markdown, save

import scmedal_tools as smt

ROUNDS, SEED = 2, 0
SIMULATED = {"n_donors": 12, "n_genes": 4000, "cell_scale": 3.0, "seed": SEED}
N_GENES = 1000  # of the counterfactuals; the trainings have all
ONLY_LOADED = "model and data only"
COUNTERFACTUALS = {
    ONLY_LOADED: None,
    "in memory": {},
    "`.zarr`": {"path": "counterfactuals.zarr"},
    "`.npy`": {"path": "counterfactuals.npy"},
    "in memory, 10 genes": {"gene_list": [f"gene_{i:04d}" for i in range(10)]},
}
TRAININGS = ("sparse", "dense")


def train(adata: ad.AnnData) -> smt.model.SCMEDAL_RE:
    scvi.settings.seed = SEED
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata)
    model.train(max_epochs=1, enable_progress_bar=False, enable_model_summary=False)
    return model


def prepare(folder: Path) -> dict:
    """Write the cells, sparse and dense, and a model of some of their genes."""
    one_thread()
    simulated = smt.datasets.simulated(**SIMULATED)
    smt.pp.preprocess(simulated, batch_key="donor", n_top_genes=None)
    cells = ad.AnnData(simulated.X, simulated.obs[["donor"]])
    cells.var_names = [f"gene_{i:04d}" for i in range(cells.n_vars)]
    cells.write_h5ad(folder / "sparse.h5ad")
    some = cells[:, :N_GENES].copy()
    train(some).save(folder / "model", save_anndata=True)
    filled = cells.X.nnz / np.prod(cells.shape)
    cells.X = cells.X.toarray()
    cells.write_h5ad(folder / "dense.h5ad")
    return {"n_cells": cells.n_obs, "n_genes": [N_GENES, cells.n_vars], "not_zero": filled}


def measure(case: str, folder: Path) -> dict:
    """Processor time of a case, and the memory of its process at the highest."""
    one_thread()
    if case in TRAININGS:
        adata = ad.read_h5ad(folder / f"{case}.h5ad")
        start = time.process_time()
        train(adata)
    else:
        model = smt.model.SCMEDAL_RE.load(folder / "model")
        arguments = COUNTERFACTUALS[case]
        start = time.process_time()
        if arguments is not None:
            targets = list(model.batch_names)
            if "path" in arguments:
                path = Path(tempfile.mkdtemp(dir=folder)) / arguments["path"]
                smt.tl.write_counterfactuals(model, model.adata, targets, path, progress=False)
            else:
                model.get_counterfactual_expression(transform_batch=targets, **arguments)
    seconds = time.process_time() - start
    return {"case": case, "cpu_seconds": round(seconds, 2), "peak_mib": round(peak_memory())}


def run() -> None:
    results = []
    with fresh_processes() as (fresh, folder):
        about = fresh.submit(prepare, folder).result()
        for i in range(ROUNDS):
            for case in (*COUNTERFACTUALS, *TRAININGS):
                results.append({"round": i} | fresh.submit(measure, case, folder).result())
                print(results[-1], flush=True)
    save("large_data", results, simulated=SIMULATED, n_targets=SIMULATED["n_donors"], **about)


def span(values: np.ndarray, digits: str = ",.0f") -> str:
    low, high = format(values.min(), digits), format(values.max(), digits)
    return low if low == high else f"{low}–{high}"


def tables() -> dict[str, str]:
    results = load("large_data")["results"]

    def of(case: str, key: str) -> np.ndarray:
        return np.array([row[key] for row in results if row["case"] == case])

    def rows(cases, reference: str, loaded: str | None) -> list[dict]:
        return [
            {
                "case": case,
                "memory": span(of(case, "peak_mib") - (of(loaded, "peak_mib") if loaded else 0)),
                "seconds": span(of(case, "cpu_seconds"), ".1f"),
                "ratio": span(of(case, "cpu_seconds") / of(reference, "cpu_seconds"), ".2f"),
            }
            for case in cases
        ]

    written = [case for case in COUNTERFACTUALS if case != ONLY_LOADED]
    columns = {
        "processor seconds": "{seconds}",
        "times the first row": "{ratio}",
    }
    return {
        "counterfactuals": markdown(
            rows(written, "in memory", ONLY_LOADED),
            {"": "{case}", "MiB beyond model and data": "{memory}"} | columns,
        ),
        "training": markdown(
            rows(TRAININGS, "sparse", None),
            {"expression": "{case}", "MiB of the process": "{memory}"} | columns,
        ),
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run()
    for name, table in tables().items():
        print(f"{name}\n{table}\n")
