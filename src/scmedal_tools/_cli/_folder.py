"""The folder that a command writes to, and what an earlier one has left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._console import fail

NETWORKS = ("fe", "fec", "re")
KEPT = "models/settings.json"
REPORT = "report.html"  # written last
FOLDS = "folds"
"""Folder of what each fold of an evaluation gave, from which it resumes."""
KEPT_OF_FOLDS = f"{FOLDS}/settings.json"
# Every file that a job may write, in the order in which to look at them; each figure also as PDF.
OUTPUTS = {
    REPORT: "everything on one page: open this first",
    "figures/embeddings.png": "UMAPs of PCA, the fixed and the random effects",
    **{f"figures/training_{name}.png": "loss curves" for name in NETWORKS},
    "figures/batch_effects.png": "what each batch does to genes",
    "figures/genomaps.png": "a few cells, and how they would look in other batches",
    "figures/confounding.png": "number of cells of each batch and cell type",
    "figures/confounding_condition.png": "number of cells of each batch and condition",
    "figures/counterfactuals.png": "genes that would change most in the target batches",
    "figures/true_shifts.png": "predicted and true shifts of all genes",
    "group_effects.csv": "what the condition changes, with batches as replicates",
    "figures/group_effects.png": "the gene with the strongest effect of the condition",
    "effect_recovery.csv": "predicted and true effects compared",
    "counterfactual_means.h5ad": "shift, reconstruction and counterfactual means, with intervals "
    "of the shift",
    "adata.h5ad": "the cells, embeddings in obsm",
    KEPT: "what the models depend on, to resume an interrupted run",
    **{f"models/{name}/model.pt": f"SCMEDAL_{name.upper()}" for name in NETWORKS},
    **{f"history/{name}.csv": "terms of the loss by epoch" for name in NETWORKS},
    "run.json": "parameters, seed, versions and timings",
}


def written_by(out: Path) -> dict[str, str]:
    """Outputs that are in the folder, and what each is."""
    found = {name: text for name, text in OUTPUTS.items() if (out / name).is_file()}
    return {name.replace(".png", ".png, .pdf"): text for name, text in found.items()}


def check_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder with files, but those of a run that was interrupted."""
    if out.exists() and not out.is_dir():
        fail(f"{out} is a file. Choose another --out.")
    if overwrite or not out.is_dir() or not any(out.iterdir()):
        return
    replaces = "Choose another --out, or pass --overwrite to replace its results."
    if (out / REPORT).is_file():
        fail(f"{out} has the results of a run that is complete. {replaces}")
    if not (out / KEPT).is_file():
        fail(f"{out} is not empty, and has no run that can be resumed. {replaces}")


def check_evaluation_folder(out: Path) -> None:
    """Refuse a folder with files, but those of an evaluation, which resumes."""
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_free and not (out / KEPT_OF_FOLDS).is_file():
        fail(
            f"{out} is a file, or contains files that do not belong to an evaluation. Choose "
            "another --out."
        )


def prepare_folder(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Remove what an earlier job has written, but models of the same settings.

    Parameters
    ----------
    out
        The folder; made where needed.
    settings
        What the models depend on; kept in the folder.
    overwrite
        Remove the models too.

    Raises
    ------
    ValueError
        If there are models of other settings.
    """
    from scmedal_tools._data import keep_settings, other_settings, remove_unfinished

    resumes = not overwrite and (out / KEPT).is_file()
    if resumes and (other := other_settings(out / KEPT, settings)):
        raise ValueError(
            f"{out} has models of a run with other settings ({', '.join(other)}). Choose another "
            "--out, or pass --overwrite to train again."
        )
    pdfs = [name.replace(".png", ".pdf") for name in OUTPUTS if name.endswith(".png")]
    for name in (*OUTPUTS, *pdfs):
        path = out / name
        if not (resumes and name.startswith("models/")):
            path.unlink(missing_ok=True)
        if path.parent.is_dir():
            remove_unfinished(path)
            if path.parent != out and not any(path.parent.iterdir()):
                path.parent.rmdir()
    if not resumes:
        keep_settings(out / KEPT, settings)
