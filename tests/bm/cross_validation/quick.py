"""A quick cross-validation, and a method that remembers what it was given."""

import numpy as np

from scmedal_tools.bm import cross_validate

QUICK = {"n_trees": 10, "progress": False}
RE_QUICK = {"max_epochs": 1, "n_hidden": (16, 8), "n_latent": 4}


def run(adata, models=("X_mine",), targets=("condition",), **options):
    options = {"n_folds": 3} | QUICK | options
    return cross_validate(adata, "donor", "cell_type", targets, models=models, **options)


class Recorder:
    """A method that remembers what it was given."""

    version = "1"

    def __init__(self):
        self.calls = []

    def __call__(self, adata, *, batch_key, labels_key, splits, seed):
        self.calls.append((adata, splits, seed))
        adata.obs["scribble"] = 1
        return np.asarray(adata.X[:, :3].todense() if hasattr(adata.X, "todense") else adata.X)[
            :, :3
        ]
