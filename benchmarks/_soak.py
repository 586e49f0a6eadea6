"""Random sequences of what a user does with cells and models, and what has to hold after each."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from scipy import sparse

import scmedal_tools as smt

TINY = {"n_hidden": (8,), "n_latent": 3}
QUICK = {
    "max_epochs": 1,
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
CLASSES = ("SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE")
COLUMNS = ["donor", "cell_type", "protocol"]
FEWEST = 60  # cells of a selection, so that every donor keeps some
NEW = "donor_new"
# Matrix products of other shapes round otherwise.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
seeds = st.integers(0, 2**16)


@cache
def _base():
    adata = smt.datasets.simulated(n_donors=4, n_genes=60, n_cell_types=2, seed=1)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=30)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)[:150]].copy()
    adata.obs["protocol"] = pd.Categorical(np.where(np.arange(150) % 3, "v2", "v3"))
    return adata


@dataclass(frozen=True)
class Trained:
    """A model, and the latents of all cells when it was made."""

    model: smt.model.MedalModel
    latents: pd.DataFrame


def latents_of(model, adata):
    return pd.DataFrame(model.get_latent_representation(adata), index=adata.obs_names)


def content(adata):
    """What is the user's own: no step but his may change it."""
    x = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    counts = adata.layers["counts"]
    counts = counts.toarray() if sparse.issparse(counts) else counts
    return x.copy(), counts.copy(), adata.obs[COLUMNS].copy(), list(adata.var_names)


def same(one, other):
    (x, counts, obs, genes), (x2, counts2, obs2, genes2) = one, other
    pd.testing.assert_frame_equal(obs, obs2)
    return np.array_equal(x, x2) and np.array_equal(counts, counts2) and genes == genes2


class Soak(RuleBasedStateMachine):
    """Cells that are copied, selected and sorted; models that are trained, saved and used."""

    data = Bundle("data")
    models = Bundle("models")

    def __init__(self):
        super().__init__()
        self.held: list[tuple] = []

    def hold(self, adata):
        self.held.append((adata, content(adata)))
        return adata

    def teardown(self):
        # Of these, scvi-tools keeps all cells that were ever set up or trained on.
        for name in CLASSES:
            model_class = getattr(smt.model, name)
            model_class._setup_adata_manager_store.clear()
            model_class._per_instance_manager_store.clear()

    @initialize(target=data, dense=st.booleans())
    def read(self, dense):
        adata = _base().copy()
        if dense:
            adata.X = adata.X.toarray()
        return self.hold(adata)

    @rule(target=data, adata=data)
    def copy(self, adata):
        return self.hold(adata.copy())

    @rule(target=data, adata=data, seed=seeds)
    def reorder(self, adata, seed):
        return self.hold(adata[np.random.default_rng(seed).permutation(adata.n_obs)].copy())

    @rule(target=data, adata=data, seed=seeds)
    def select(self, adata, seed):
        rng = np.random.default_rng(seed)
        n_cells = rng.integers(min(FEWEST, adata.n_obs), adata.n_obs + 1)
        return self.hold(adata[np.sort(rng.permutation(adata.n_obs)[:n_cells])].copy())

    @rule(target=models, adata=data, name=st.sampled_from(CLASSES), crossed=st.booleans())
    def train(self, adata, name, crossed):
        model_class = getattr(smt.model, name)
        model_class.setup_anndata(
            adata,
            batch_key="donor",
            labels_key="cell_type" if name == "SCMEDAL_FEC" else None,
            random_effect_keys=["protocol"] if crossed else None,
        )
        model = model_class(adata, **TINY)
        model.train(**QUICK)
        return self.known(model)

    @rule(target=models, trained=models)
    def train_again(self, trained):
        """A copy of it, as the one in the bundle is to stay what it is."""
        if trained.model.adata is None:
            return multiple()
        with tempfile.TemporaryDirectory() as folder:
            trained.model.save(f"{folder}/model", save_anndata=True)
            model = type(trained.model).load(f"{folder}/model", accelerator="cpu")
        model.train(**QUICK)
        return self.known(model)

    @rule(target=models, trained=models, adata=data, with_cells=st.booleans())
    def save_and_load(self, trained, adata, with_cells):
        with tempfile.TemporaryDirectory() as folder:
            trained.model.save(f"{folder}/model")
            given = adata if with_cells else False
            model = type(trained.model).load(f"{folder}/model", given, accelerator="cpu")
        self.check(model, trained.latents, adata)
        return Trained(model, trained.latents)

    @rule(target=models, trained=models, adata=data)
    def add_a_donor(self, trained, adata):
        model = trained.model
        if not isinstance(model, smt.model.SCMEDAL_RE) or model.is_query:
            return multiple()
        cells = adata[adata.obs["donor"] != "donor_01"].copy()
        cells.obs["donor"] = cells.obs["donor"].astype(str).replace("donor_02", NEW)
        query = smt.model.SCMEDAL_RE.load_query_data(cells, model, accelerator="cpu")
        query.train(**QUICK)
        assert query.batch_names[-1] == NEW
        assert np.isfinite(query.get_latent_representation()).all()
        # What the reference knew of its own batches stays.
        self.check(query, trained.latents, adata)
        return Trained(query, trained.latents)

    @rule(trained=models, adata=data)
    def embed(self, trained, adata):
        key = smt.tl.embed(adata, trained.model, "X_mine")
        np.testing.assert_allclose(
            adata.obsm[key], trained.latents.loc[adata.obs_names], **TOLERANCE
        )

    @rule(trained=models, adata=data, code=st.integers(0, 3))
    def counterfactuals(self, trained, adata, code):
        model = trained.model
        if not isinstance(model, smt.model.SCMEDAL_RE):
            assert np.isfinite(model.get_corrected_expression(adata)).all(axis=None)
            return
        target = model.batch_names[code]
        table = model.get_counterfactual_expression(adata, transform_batch=target)
        assert np.isfinite(table).all(axis=None)
        own = (adata.obs["donor"] == target).to_numpy()
        expected = model.get_reconstruction(adata)[own]
        np.testing.assert_allclose(table[own], expected, **TOLERANCE)

    @rule(trained=models)
    def effects(self, trained):
        model = trained.model
        if not isinstance(model, smt.model.SCMEDAL_RE):
            return
        if model.adata is not None and model.train_indices is not None:
            assert np.isfinite(model.get_batch_effects()).all(axis=None)
        else:
            with pytest.raises(ValueError, match="cells that the model was trained on"):
                model.get_batch_effects()

    @rule(trained=models, adata=data)
    def ask_for_an_unknown_donor(self, trained, adata):
        cells = adata.copy()
        cells.obs["donor"] = cells.obs["donor"].astype(str).replace("donor_03", "nobody")
        if "nobody" in set(cells.obs["donor"]):
            with pytest.raises(ValueError, match="nobody"):
                trained.model.get_latent_representation(cells)
        latent = trained.model.get_latent_representation(cells, unseen_batch="population")
        assert np.isfinite(latent).all()

    @rule(trained=models, adata=data)
    def look_again(self, trained, adata):
        self.check(trained.model, trained.latents, adata)

    def known(self, model):
        latents = latents_of(model, _base().copy())
        assert np.isfinite(latents).all(axis=None)
        own = model.adata
        # Of a donor who was added, they are other latents than those of the same cells before.
        self.check(model, latents, own[(own.obs["donor"] != NEW).to_numpy()].copy())
        return Trained(model, latents)

    def check(self, model, latents, adata):
        """A cell has the latent that it had, whatever cells it is asked for with."""
        found = latents_of(model, adata)
        np.testing.assert_allclose(found, latents.loc[found.index], **TOLERANCE)

    @invariant()
    def nothing_of_the_users_has_changed(self):
        for adata, before in self.held:
            assert same(content(adata), before)
