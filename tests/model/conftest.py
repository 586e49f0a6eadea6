"""Trained models that tests read and leave as they are."""

import numpy as np
import pytest

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
# Every model is registered with cell types, some of them unknown; only FEC learns from them.
SETUP = {"labels_key": "partly_labelled"}


@pytest.fixture(scope="session")
def labelled(cells):
    """The cells with a column in which every fifth cell type is unknown."""
    adata = cells.copy()
    types = adata.obs["cell_type"].astype(str).to_numpy()
    types[::5] = "unlabeled"
    adata.obs["partly_labelled"] = types
    return adata


@pytest.fixture(scope="session")
def trained_models(fit, labelled):
    return {
        name: fit(name, labelled.copy(), SETUP, early_stopping_warmup_epochs=0) for name in MODELS
    }


@pytest.fixture(params=MODELS)
def trained(request, trained_models):
    return trained_models[request.param]


@pytest.fixture(scope="session")
def fe(trained_models):
    return trained_models["SCMEDAL_FE"]


@pytest.fixture(scope="session")
def fec(trained_models):
    return trained_models["SCMEDAL_FEC"]


@pytest.fixture(scope="session")
def re(trained_models):
    """Random effects, made large enough to be seen after a short training."""
    import torch

    model = trained_models["SCMEDAL_RE"]
    generator = torch.Generator().manual_seed(0)
    for table in model.module.effect_tables.values():
        table.loc.data += 0.2 * torch.randn(table.loc.shape, generator=generator)
    return model


@pytest.fixture
def fresh(labelled):
    """Some of the cells, in an object that no model knows."""
    return labelled[np.arange(0, 240, 3)].copy()


@pytest.fixture
def raised():
    """Cells of donors that differ in nothing, but that the second has gene 7 raised by 1."""
    import scmedal_tools as smt

    adata = smt.datasets.simulated(5, 60, 2, effect_scale=0.0, confounding=0.0)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    x = adata.X.toarray()
    x[(adata.obs["donor"] == "donor_02").to_numpy(), 7] += 1.0
    adata.X = x
    return adata


@pytest.fixture(scope="session")
def paper(fit, cells):
    return fit("SCMEDAL_RE", cells.copy(), model={"preset": "paper"})


@pytest.fixture
def without_effects(re):
    """The model with every random effect at its prior mean."""
    tables = (*re.module.effect_tables.values(), *re.module.gene_effects.factors)
    means = [table.loc.data for table in tables]
    means += [table.correction for table in re.module.gene_effects.factors]
    before = [mean.clone() for mean in means]
    for mean in means:
        mean.zero_()
    yield re
    for mean, value in zip(means, before, strict=True):
        mean.copy_(value)
