"""Fixed effects with cell types: who is learned from, and what is predicted."""

import numpy as np
import pandas as pd
import pytest
import torch
from scvi import REGISTRY_KEYS

SETUP = {"labels_key": "partly_labelled"}


def test_labels_without_the_unknown(fec):
    assert list(fec.label_names) == ["type_1", "type_2", "type_3"]
    assert fec.module.n_labels == 3


def test_needs_a_labels_key(build, adata):
    with pytest.raises(ValueError, match=r"SCMEDAL_FEC\.setup_anndata\(.*labels_key='cell_type'"):
        build("SCMEDAL_FEC", adata)


class TestPredict:
    def test_names_are_those_of_the_largest_probability(self, fec):
        soft, hard = fec.predict(soft=True), fec.predict()
        assert list(soft.columns) == list(fec.label_names)
        assert list(soft.index) == list(fec.adata.obs_names)
        np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(hard, soft.idxmax(axis=1))

    def test_indices_other_cells_and_dataloader(self, fec, fresh):
        whole = fec.predict(soft=True)
        pd.testing.assert_frame_equal(fec.predict(indices=[4, 1], soft=True), whole.iloc[[4, 1]])
        fresh.obs["partly_labelled"] = "unlabeled"
        soft = fec.predict(fresh, soft=True, batch_size=9)
        pd.testing.assert_frame_equal(soft, whole.iloc[::3], rtol=1e-4)
        minibatches = fec._make_data_loader(fresh)
        np.testing.assert_array_equal(fec.predict(dataloader=minibatches), fec.predict()[::3])

    @pytest.mark.slow
    def test_types_are_learned(self, fit, labelled):
        plan = {"lr": 5e-3}
        model = fit("SCMEDAL_FEC", labelled.copy(), SETUP, max_epochs=15, plan_kwargs=plan)
        truth = labelled.obs["cell_type"].astype(str).to_numpy()
        unknown = labelled.obs["partly_labelled"] == "unlabeled"
        majority = pd.Series(truth).value_counts(normalize=True).iloc[0]
        hit = model.predict() == truth
        assert hit[~unknown].mean() > (1 + majority) / 2
        assert hit[unknown].mean() > (1 + majority) / 2


class TestUnlabelled:
    @pytest.fixture
    def minibatch(self, fec):
        return next(iter(fec._make_data_loader(fec.adata, indices=np.arange(60), batch_size=60)))

    @staticmethod
    def label_ce(model, tensors):
        with torch.no_grad():
            return model.module(tensors)[2].extra_metrics["label_ce"].item()

    def test_only_the_labelled_cells_count(self, fec, minibatch):
        soft = fec.predict(indices=np.arange(60), soft=True)
        types = fec.adata.obs["partly_labelled"].iloc[:60]
        known = types[types != "unlabeled"]
        nats = [-np.log(soft.loc[cell, label]) for cell, label in known.items()]
        assert 0 < len(nats) < 60
        assert self.label_ce(fec, minibatch) == pytest.approx(np.mean(nats), rel=1e-4)

    def test_their_code_does_not_matter(self, fec, minibatch):
        before = self.label_ce(fec, minibatch)
        labels = minibatch[REGISTRY_KEYS.LABELS_KEY]
        assert (labels == 3).sum() == 12
        labels[labels == 3] = 17
        assert self.label_ce(fec, minibatch) == before

    def test_a_minibatch_without_any_label(self, fec, minibatch):
        minibatch[REGISTRY_KEYS.LABELS_KEY][:] = 3
        assert self.label_ce(fec, minibatch) == 0

    def test_another_name_for_unknown(self, fit, labelled):
        adata = labelled.copy()
        adata.obs["partly_labelled"] = adata.obs["partly_labelled"].replace("unlabeled", "?")
        model = fit("SCMEDAL_FEC", adata, SETUP | {"unlabeled_category": "?"})
        known = adata.obs["partly_labelled"] != "?"
        names = model.label_names[adata.obs["_scvi_labels"][known]]
        assert list(names) == list(adata.obs["partly_labelled"][known])
        assert set(model.predict()) <= {"type_1", "type_2", "type_3"}


@pytest.mark.slow
def test_batch_as_label(fit, adata):
    plan = {"lr": 5e-3}
    model = fit(
        "SCMEDAL_FEC",
        adata,
        {"labels_key": "donor"},
        {"adversary_weight": 0},
        max_epochs=15,
        plan_kwargs=plan,
    )
    assert list(model.label_names) == list(model.batch_names)
    hit = model.predict() == adata.obs["donor"].astype(str).to_numpy()
    assert hit.mean() > 2 * adata.obs["donor"].value_counts(normalize=True).max()
