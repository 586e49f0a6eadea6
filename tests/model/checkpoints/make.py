"""Make the models that are missing in this folder, and what they compute.

OMP_NUM_THREADS=1 python tests/model/checkpoints/make.py

Models of earlier versions are to stay readable: none that is there is made again.
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
# Class, and arguments of its setup and of the model, by folder.
MODELS = {
    "fe": ("SCMEDAL_FE", {}, {}),
    "fec": ("SCMEDAL_FEC", {"labels_key": "cell_type"}, {}),
    "re": ("SCMEDAL_RE", {}, {}),
    "re_two_factors": ("SCMEDAL_RE", {"random_effect_keys": ["protocol"]}, {}),
    "re_states": ("SCMEDAL_RE", {"states_key": "cell_type"}, {}),
    "fe_paper": ("SCMEDAL_FE", {}, {"preset": "paper-aml"}),
    "re_paper": ("SCMEDAL_RE", {}, {"preset": "paper-aml"}),
    "re_query": ("SCMEDAL_RE", {}, {}),
}
# Folder of the model that learned a further donor.
REFERENCES = {"re_query": "re"}
TARGET = "donor_01"
PACKAGES = ("scmedal-tools", "scvi-tools", "torch", "pandas", "numpy", "anndata")


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


def cells_of(folder: str) -> AnnData:
    """The cells that the model of a folder is trained on."""
    adata = cells()
    if folder in REFERENCES:
        adata.obs["donor"] = "donor_06"
    return adata


def trained(folder: str, adata: AnnData) -> smt.model.MedalModel:
    """Train the model of a folder."""
    name, setup, settings = MODELS[folder]
    model_class = getattr(smt.model, name)
    if folder in REFERENCES:
        model = model_class.load_query_data(adata, HERE / REFERENCES[folder], accelerator="cpu")
    else:
        model_class.setup_anndata(adata, batch_key="donor", **setup)
        model = model_class(adata, **SIZES | settings)
    model.train(**QUICK)
    return model


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
    arrays = dict(np.load(HERE / "expected.npz"))
    made_by = json.loads((HERE / "versions.json").read_text())
    for folder in MODELS:
        if not (HERE / folder).exists():
            scvi.settings.seed = 0
            model = trained(folder, cells_of(folder))
            model.save(HERE / folder)
            found = computed(model, cells_of(folder))
            arrays |= {f"{folder} {key}": values.astype("f4") for key, values in found.items()}
            made_by[folder] = {name: version(name) for name in PACKAGES}
    np.savez_compressed(HERE / "expected.npz", **arrays)
    (HERE / "versions.json").write_text(json.dumps(made_by, indent=1) + "\n")


if __name__ == "__main__":
    main()
