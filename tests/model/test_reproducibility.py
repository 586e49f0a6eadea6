"""The same seed gives the same bits, whatever process, storage or minibatches."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import scvi

import scmedal_tools as smt

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]


def simulated():
    adata = smt.datasets.simulated(n_donors=4, n_genes=40, n_cell_types=2)[::6].copy()
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    return adata


def trained(name, adata):
    model_class = getattr(smt.model, name)
    labels_key = "cell_type" if name == "SCMEDAL_FEC" else None
    model_class.setup_anndata(adata, batch_key="donor", labels_key=labels_key)
    scvi.settings.seed = 3
    model = model_class(adata, n_hidden=(16, 8), n_latent=3, adversary_hidden=(8,))
    model.train(max_epochs=2, batch_size=32, accelerator="cpu", enable_progress_bar=False)
    return model


def digests():
    """Digest of the latents, for another process."""
    from hashlib import sha256

    found = {}
    for name in MODELS:
        latent = trained(name, simulated()).get_latent_representation()
        found[name] = sha256(np.ascontiguousarray(latent).tobytes()).hexdigest()
    return found


@pytest.fixture(autouse=True)
def without_a_seed_afterwards(one_thread):
    yield
    scvi.settings.seed = None


@pytest.fixture(scope="module")
def adata():
    return simulated()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_in_a_process(adata, name):
    first = trained(name, adata.copy())
    dense = adata.copy()
    dense.X = dense.X.toarray()
    columns = adata.copy()
    columns.X = sp.csc_matrix(columns.X)
    expected = first.get_latent_representation()
    assert np.isfinite(expected).all()
    for other in (adata.copy(), dense, columns):
        model = trained(name, other)
        np.testing.assert_array_equal(model.get_latent_representation(), expected)
        for key, value in model.module.state_dict().items():
            np.testing.assert_array_equal(value, first.module.state_dict()[key], err_msg=key)
    some = np.array([30, 2, 57])
    for batch_size in (1, 7, 1_000):
        for indices in (None, some):
            latent = first.get_latent_representation(indices=indices, batch_size=batch_size)
            known = expected if indices is None else expected[indices]
            np.testing.assert_allclose(latent, known, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_in_another_process():
    folder, module = __file__.rsplit("/", 1)
    code = (
        "import sys, json, torch; torch.set_num_threads(1)\n"
        f"sys.path.insert(0, {folder!r})\n"
        f"from {module.removesuffix('.py')} import digests\n"
        "print(json.dumps(digests()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == digests()
