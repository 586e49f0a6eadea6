"""Two processes learn what one learns from minibatches twice as large.

Run as a script, this file is what each of the two processes does.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import LambdaCallback

import scmedal_tools as smt

N_CELLS, N_NEW, TRAIN_SIZE = 160, 40, 0.8
TINY = {"n_hidden": (16, 8), "n_latent": 4, "adversary_hidden": (16,)}
# Without dropout, which differs between cells, both ways are the same sums in another order. A
# large eps, as Adam divides even those gradients by their size that are nothing but rounding.
ALIKE = {"input_dropout": 0.0, "adversary_dropout": 0.0}
EPS = 1e-3
CASES = {
    "FE": ("SCMEDAL_FE", {}),
    "FEC": ("SCMEDAL_FEC", {}),
    "RE": ("SCMEDAL_RE", {}),
    "RE of the paper": ("SCMEDAL_RE", {"preset": "paper", "normalization": "layer"}),
}
# Batch normalisation has the means of a process's own cells.
NORMALISED = {"FE of the paper": ("SCMEDAL_FE", {"preset": "paper"})}
NEW = "RE, new donors"


def cells():
    """Cells of the training, few of them labelled, and of new donors."""
    adata = smt.datasets.simulated(n_donors=6, n_genes=40, n_cell_types=2)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    rng = np.random.default_rng(0)
    adata = adata[rng.permutation(adata.n_obs)[: N_CELLS + N_NEW]].copy()
    adata.obs["labels"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[rng.random(adata.n_obs) < 0.8, "labels"] = "unknown"
    new = adata[N_CELLS:].copy()
    new.obs["donor"] = "new " + new.obs["donor"].astype(str)
    return adata[:N_CELLS].copy(), new


def build(name, settings, adata):
    model_class = getattr(smt.model, name)
    labels = {"labels_key": "labels", "unlabeled_category": "unknown"}
    labels = labels if name == "SCMEDAL_FEC" else {}
    model_class.setup_anndata(adata, batch_key="donor", **labels)
    return model_class(adata, **TINY | ALIKE | settings)


def train(model, rank, n_processes, max_epochs):
    """Train on all cells at once; the processes draw differently, if it is left to them."""

    def seed(trainer, *_):
        torch.manual_seed(trainer.global_step + 1_000_000 * rank)

    together = {"devices": n_processes, "strategy": "ddp"} if n_processes > 1 else {}
    if together and isinstance(model, smt.model.SCMEDAL_FE):
        together["strategy"] = "ddp_find_unused_parameters_true"  # as scvi-tools advises
    model.train(
        max_epochs=max_epochs,
        batch_size=int(TRAIN_SIZE * model.adata.n_obs) // n_processes,
        train_size=TRAIN_SIZE,
        accelerator="cpu",
        plan_kwargs={"eps": EPS},
        callbacks=[LambdaCallback(on_train_batch_start=seed)],
        enable_progress_bar=False,
        **together,
    )


def outcome(model):
    optimizers = model.trainer.optimizers
    of_parameters = [of for optimizer in optimizers for of in optimizer.state.values()]
    return {
        "history": {name: of.to_numpy(dtype=float) for name, of in model.history.items()},
        "best epoch": model.best_epoch_,
        "training cells": model.train_indices,
        "squares": [float(of["square"]) for of in of_parameters if "square" in of],
        "state": model.module.state_dict(),
        "latent": model.get_latent_representation(),
    }


def learn(cases, rank=0, n_processes=1, folder=None):
    """Outcomes of the cases in one process, whose own weights and split are others' too or not."""
    adata, new = cells()
    outcomes = {}
    for case, (name, settings) in cases.items():
        scvi.settings.seed = rank
        model = build(name, settings, adata)
        train(model, rank, n_processes, max_epochs=4)
        outcomes[case] = outcome(model)
        if folder is not None and model.trainer.is_global_zero:
            model.save(folder / case)
        if case == "RE":
            query = type(model).load_query_data(new, model)
            train(query, rank, n_processes, max_epochs=3)
            outcomes[NEW] = outcome(query)
    scvi.settings.seed = None
    return outcomes


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", 0))
    torch.save(learn(CASES | NORMALISED, rank, 2, folder), folder / f"{rank}.pt")
    sys.exit()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of what two processes leave, of which Lightning starts the second."""
    folder = tmp_path_factory.mktemp("distributed")
    command = [sys.executable, str(Path(__file__).resolve()), str(folder)]
    environment = {k: v for k, v in os.environ.items() if k != "PL_GLOBAL_SEED"}
    environment["PYTHONPATH"] = str(Path(smt.__file__).parents[1])
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def two(saved):
    """Outcomes of both processes."""
    return [torch.load(saved / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one():
    """Outcomes of one process, by itself."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield learn(CASES)
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("case", [*CASES, NEW])
def test_the_losses_are_those_of_one_process(one, two, case):
    alone, first = one[case]["history"], two[0][case]["history"]
    # The others of validation cells are means over minibatches of what is not a mean over cells.
    names = [name for name in alone if "train" in name or name == "selection_validation"]
    assert len(names) > 8
    for name in names:
        assert len(first[name]) == len(alone[name]) > 1
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert two[0][case]["best epoch"] == one[case]["best epoch"]


@pytest.mark.parametrize("case", [*CASES, NEW])
def test_the_weights_are_those_of_one_process(one, two, case):
    for name, weights in one[case]["state"].items():
        np.testing.assert_allclose(
            two[0][case]["state"][name], weights, rtol=1e-5, atol=2e-5, err_msg=name
        )


def test_derivatives_vary_over_the_cells_of_both_processes(one, two):
    """This scales the steps of the priors of effects on genes."""
    expected = one["RE"]["squares"]
    assert len(expected) == 2  # slopes and biases
    for of_process in two:
        np.testing.assert_allclose(of_process["RE"]["squares"], expected, rtol=1e-4)


@pytest.mark.parametrize("case", [*CASES, *NORMALISED, NEW])
def test_both_processes_have_the_same_bits(two, case):
    first, second = (of[case] for of in two)
    assert first["state"].keys() == second["state"].keys()
    for name, weights in first["state"].items():
        assert torch.equal(weights, second["state"][name]), name
    for name in ("training cells", "latent"):
        np.testing.assert_array_equal(first[name], second[name])
    assert first["best epoch"] == second["best epoch"]


@pytest.mark.parametrize("case", [*CASES, *NORMALISED])
def test_a_plain_process_loads_the_model(saved, two, case):
    adata, _ = cells()
    model_class = getattr(smt.model, (CASES | NORMALISED)[case][0])
    model = model_class.load(saved / case, adata)
    np.testing.assert_allclose(
        model.get_latent_representation(), two[0][case]["latent"], rtol=1e-5, atol=1e-6
    )
