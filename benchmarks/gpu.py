"""Time of training and of counterfactuals on a GPU and on the processor beside it.

python benchmarks/gpu.py run   # needs a GPU; writes results/gpu.json
python benchmarks/gpu.py       # prints the table

Simulated cells. Each case runs once to warm up, then both devices take turns.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings

import numpy as np
import scvi
import torch
from _record import load, markdown, save

import scmedal_tools as smt

ROUNDS, EPOCHS, SEED = 2, 2, 0
SIMULATED = {"n_donors": 20, "n_genes": 3000, "cell_scale": 2.0, "seed": SEED}
DEVICES = ("cpu", "gpu")
COUNTERFACTUALS = "counterfactuals"
CASES = ("FE", "FEC", "RE", COUNTERFACTUALS)


def prepare(name: str, adata, device: str):
    """Give a function that does the work of the case once."""
    model_class = getattr(smt.model, f"SCMEDAL_{'RE' if name == COUNTERFACTUALS else name}")
    model_class.setup_anndata(adata, batch_key="donor", labels_key="cell_type")

    def trained():
        scvi.settings.seed = SEED
        model = model_class(adata)
        model.train(
            max_epochs=EPOCHS,
            accelerator=device,
            devices=1,
            early_stopping=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        return model

    if name != COUNTERFACTUALS:
        return trained
    model = trained()
    targets = list(model.batch_names)
    return lambda: model.get_counterfactual_expression(
        indices=np.arange(4096), transform_batch=targets, return_numpy=True
    )


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return round(time.perf_counter() - start, 3)


def run() -> None:
    adata = smt.datasets.simulated(**SIMULATED)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    results = []
    for name in CASES:
        works = {device: prepare(name, adata, device) for device in DEVICES}
        for work in works.values():
            work()
        for i in range(ROUNDS):
            for device, work in works.items():
                results.append(
                    {"case": name, "device": device, "round": i, "seconds": seconds(work)}
                )
                print(results[-1], flush=True)
    save(
        "gpu",
        results,
        gpu=torch.cuda.get_device_name(),
        threads=torch.get_num_threads(),
        n_cells=adata.n_obs,
        n_genes=adata.n_vars,
        epochs=EPOCHS,
        simulated=SIMULATED,
    )


def tables() -> dict[str, str]:
    record = load("gpu")

    def row(name: str) -> dict:
        taken = {
            device: [
                r["seconds"]
                for r in record["results"]
                if (r["case"], r["device"]) == (name, device)
            ]
            for device in DEVICES
        }
        ratios = np.divide(taken["cpu"], taken["gpu"])
        title = name if name == COUNTERFACTUALS else f"{name}, {record['epochs']} epochs"
        spans = {device: f"{min(s):.1f}–{max(s):.1f}" for device, s in taken.items()}
        return {"title": title, "ratio": f"{ratios.min():.1f}–{ratios.max():.1f}"} | spans

    columns = {"": "{title}", "seconds, processor": "{cpu}", "seconds, GPU": "{gpu}"}
    columns["processor / GPU"] = "{ratio}"
    return {"times": markdown([row(name) for name in CASES], columns)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        run()
    else:
        print(tables()["times"])
