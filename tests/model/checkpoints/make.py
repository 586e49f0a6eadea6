"""Make the models in this folder, and what they compute.

OMP_NUM_THREADS=1 python tests/model/checkpoints/make.py

Run it only where the format changes on purpose: models of earlier versions are to stay readable.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scvi
import torch
from anndata import AnnData

import scmedal_tools as smt

HERE = Path(__file__).parent
SIZES = {"n_hidden": (8,), "n_latent": 3, "adversary_hidden": (8,)}
QUICK = {"max_epochs": 3, "batch_size": 16, "accelerator": "cpu", "enable_progress_bar": False}
# Class and arguments of its setup, by folder.
MODELS = {
    "fe": ("SCMEDAL_FE", {}),
    "fec": ("SCMEDAL_FEC", {"labels_key": "cell_type"}),
    "re": ("SCMEDAL_RE", {}),
    "re_two_factors": ("SCMEDAL_RE", {"random_effect_keys": ["protocol"]}),
}
TARGET = "donor_01"


def cells() -> AnnData:
    """60 simulated cells of five donors, two types and two protocols; 16 genes."""
    rng = np.random.default_rng(0)
    donor, kind, protocol = np.arange(60) % 5, np.arange(60) % 2, np.arange(60) % 3 > 0
    level = rng.normal(0, 0.5, (2, 16))[kind] + rng.normal(0, 0.4, (5, 16))[donor]
    level += np.outer(protocol, rng.normal(0, 0.4, 16))
    counts = rng.poisson(4 * np.exp(level))
    x = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    adata = AnnData(x)
    adata.obs["donor"] = [f"donor_{i + 1:02d}" for i in donor]
    adata.obs["cell_type"] = [f"type_{i + 1}" for i in kind]
    adata.obs["protocol"] = np.where(protocol, "v2", "v3")
    return adata


def computed(model: smt.model.MedalModel, adata: AnnData) -> dict[str, np.ndarray]:
    """What a model is held to."""
    found = {"latent": model.get_latent_representation(adata)}
    found["reconstruction"] = model.get_reconstruction(adata).to_numpy()
    if isinstance(model, smt.model.SCMEDAL_RE):
        swapped = model.get_counterfactual_expression(adata, transform_batch=TARGET)
        effects = model.get_batch_effects()
        found |= {"counterfactual": swapped.to_numpy()}
        found |= {name: effects[name].to_numpy() for name in ("effect", "sd")}
    return found


def main() -> None:
    torch.set_num_threads(1)
    adata = cells()
    arrays = {"x": adata.X}
    for folder, (name, setup) in MODELS.items():
        scvi.settings.seed = 0
        model_class, of_model = getattr(smt.model, name), adata.copy()
        model_class.setup_anndata(of_model, batch_key="donor", **setup)
        model = model_class(of_model, **SIZES)
        model.train(**QUICK)
        model.save(HERE / folder, overwrite=True)
        arrays |= {f"{folder} {key}": value for key, value in computed(model, adata).items()}
    np.savez_compressed(HERE / "expected.npz", **{k: v.astype("f4") for k, v in arrays.items()})
    packages = ("scmedal-tools", "scvi-tools", "torch", "pandas", "numpy", "anndata")
    text = json.dumps({name: version(name) for name in packages}, indent=1)
    (HERE / "versions.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
