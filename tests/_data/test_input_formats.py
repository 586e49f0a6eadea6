"""One property of the input varied at a time: the same result, or a message with the remedy."""

from __future__ import annotations

from importlib.util import find_spec

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

import scmedal_tools as smt

N_CELLS, N_GENES = 60, 20


def with_x(adata, x):
    return ad.AnnData(x, obs=adata.obs, var=adata.var)


def with_long_indices(adata):
    made = with_x(adata, sp.csr_matrix(adata.X))
    made.X.indices, made.X.indptr = (i.astype(np.int64) for i in (made.X.indices, made.X.indptr))
    return made


def in_layer(adata):
    made = with_x(adata, np.full(adata.shape, np.nan, dtype=np.float32))
    made.layers["mine"] = adata.X
    return made


def as_view(adata):
    twice = ad.concat([adata, adata[:5]])
    twice.obs_names_make_unique()
    return twice[:N_CELLS]


FORMATS = {
    "dense": lambda a: a.copy(),
    "csr": lambda a: with_x(a, sp.csr_matrix(a.X)),
    "csc": lambda a: with_x(a, sp.csc_matrix(a.X)),
    "csr_array": lambda a: with_x(a, sp.csr_array(a.X)),
    "csc_array": lambda a: with_x(a, sp.csc_array(a.X)),
    "fortran": lambda a: with_x(a, np.asfortranarray(a.X)),
    "float64": lambda a: with_x(a, a.X.astype(np.float64)),
    "int64 indices": with_long_indices,
    "layer": in_layer,
}
HALF, WHOLE = {"float16": np.float16}, {"int32": np.int32, "int64": np.int64, "uint16": np.uint16}
OTHER_TYPES = {name: lambda a, t=t: with_x(a, a.X.astype(t)) for name, t in (HALF | WHOLE).items()}


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(1.0, 3.0, size=N_GENES), size=(N_CELLS, N_GENES)).astype(np.float32)
    x[3] *= 3_000  # more than the 65,504 of half precision in all, if in no single gene
    x[3] = np.minimum(x[3], 40_000)
    obs = pd.DataFrame({"donor": pd.Categorical(["a", "b", "c"] * 20)})
    obs.index = [f"cell_{i}" for i in range(N_CELLS)]
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))


@pytest.fixture(scope="module")
def expression(counts):
    made = counts.copy()
    smt.pp.preprocess(made, n_top_genes=None, min_genes=1, min_cells=1)
    return with_x(counts[:, made.var_names], made.X)


def layer_of(adata):
    return "mine" if "mine" in adata.layers else None


def preprocessed(adata):
    made = smt.pp.preprocess(
        adata, layer=layer_of(adata), n_top_genes=12, min_genes=1, min_cells=1, copy=True
    )
    x = made.X.toarray() if sp.issparse(made.X) else made.X
    return pd.DataFrame(x, made.obs_names, made.var_names)


def latent(adata):
    scvi.settings.seed = 0
    smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor", layer=layer_of(adata))
    # A file gives the cells of a minibatch in its own order, and masks would fall on others.
    without = {"input_dropout": 0.0, "adversary_dropout": 0.0}
    model = smt.model.SCMEDAL_FE(adata, n_hidden=(8,), n_latent=2, **without)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    return model.get_latent_representation()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMATS, *OTHER_TYPES, "view"])
def test_counts_are_preprocessed_alike(counts, name):
    makers = FORMATS | OTHER_TYPES | {"view": as_view}
    ours = preprocessed(makers[name](counts))
    expected = preprocessed(counts)
    pd.testing.assert_frame_equal(ours, expected, check_dtype=False, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMATS, "float16", "backed"])
def test_networks_learn_the_same(expression, name, tmp_path):
    if name == "backed":
        expression.write_h5ad(tmp_path / "cells.h5ad")
        made = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    else:
        made = (FORMATS | OTHER_TYPES)[name](expression)
    tolerance = 1e-2 if name == "float16" else 1e-4
    np.testing.assert_allclose(latent(made), latent(expression.copy()), atol=tolerance)


def test_views_are_to_be_copied(expression):
    with pytest.raises(ValueError, match=r"adata = adata\.copy\(\)"):
        latent(as_view(expression))


def as_dask(adata):
    return with_x(adata, da.from_array(adata.X, chunks=(30, N_GENES)))


def dask_layer(adata):
    made = in_layer(adata)
    made.layers["mine"] = da.from_array(adata.X, chunks=(30, N_GENES))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("step", [preprocessed, latent])
@pytest.mark.parametrize("make", [as_dask, dask_layer])
def test_dask_has_to_be_computed(counts, expression, step, make):
    adata = make(counts if step is preprocessed else expression)
    with pytest.raises(ValueError, match=r"is a dask array\. Run:\nadata = adata\.to_memory\(\)$"):
        step(adata)
    step(adata.to_memory())


@pytest.mark.parametrize("step", [preprocessed, latent])
def test_lazily_read_data_have_to_be_read(counts, expression, step, tmp_path):
    (counts if step is preprocessed else expression).write_zarr(tmp_path / "cells.zarr")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.zarr")
    with pytest.raises(ValueError, match=r"adata = adata\.to_memory\(\)$"):
        step(lazy)
    step(lazy.to_memory())


def test_backed_counts_have_to_be_read(counts, tmp_path):
    counts.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"adata = adata\.to_memory\(\)$"):
        preprocessed(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"))


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_no_expression(counts, name):
    with pytest.raises(ValueError, match=r"raw counts.*\n.*preprocess\(adata\)$"):
        latent(OTHER_TYPES[name](counts))


def test_anndata_itself_takes_no_coo(counts):
    with pytest.raises(ValueError, match="Only CSR and CSC"):
        with_x(counts, sp.coo_matrix(counts.X))


LEVELS = ["a", "b", "c"] * 20
COLUMNS = {
    "categorical": (pd.Categorical(LEVELS), None),
    "text": (np.array(LEVELS, dtype=object), None),
    "string": (pd.array(LEVELS, dtype="string"), None),
    "integer": ([1, 2, 3] * 20, None),
    "boolean": ([False, True] * 30, None),
    "nullable boolean": (pd.array([False, True] * 30, dtype="boolean"), None),
    "float": ([0.5, 1.0, 1.5] * 20, None),
    "unused levels": (pd.Categorical(LEVELS, ["a", "A", "b", "c", "d"]), None),
    "mixed types": ([1, "b", "c"] * 20, r"levels that are text(.|\n)*astype\(str\)"),
    "nullable integer": (pd.array([1, 2, 3] * 20, dtype="Int64"), None),
    "unicode": (["Zoë", "Ångström", "供体"] * 20, None),
    "slashes and HTML": (["a/b", "<b>x</b>", "../c"] * 20, None),
    "missing": (["a", "b", None] * 20, r"missing in 20 of 60 cells(.|\n)*fillna"),
    "missing integer": (pd.array([1, 2, None] * 20, dtype="Int64"), "missing in 20 of 60 cells"),
    "missing float": ([1.0, 2.0, np.nan] * 20, "missing in 20 of 60 cells"),
    "missing category": (pd.Categorical(["a", "b", None] * 20), "missing in 20 of 60 cells"),
    "missing string": (pd.array(["a", "b", None] * 20, dtype="string"), "missing in 20 of 60"),
    "missing boolean": (pd.array([True, False, None] * 20, dtype="boolean"), "missing in 20 of"),
    "nullable float": (pd.array([0.5, 1.0, 1.5] * 20, dtype="Float64"), None),
    "categories that are numbers": (pd.Categorical([3, 1, 2] * 20), None),
    "numbers as text": (["10", "9", "1"] * 20, None),
    "blanks and cases": (["a", "A", " a"] * 20, None),
    "one level": (["a"] * 60, r"has 1 level\(s\)"),
}
if find_spec("pyarrow"):
    COLUMNS["arrow"] = (pd.array(LEVELS, dtype="string[pyarrow]"), None)


@pytest.mark.parametrize("name", COLUMNS)
def test_batches_of_any_type(expression, name):
    values, message = COLUMNS[name]
    adata = expression.copy()
    adata.obs["donor"] = values
    if message is not None:
        with pytest.raises(ValueError, match=rf"^batch_key='donor' (.|\n)*{message}"):
            smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
        return
    smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_FE(adata, n_hidden=(8,), n_latent=2)
    codes = adata.obs["_scvi_batch"].to_numpy()
    assert [str(model.batch_names[code]) for code in codes[:3]] == [str(v) for v in values[:3]]
    n_levels = len(set(values))  # which take turns
    np.testing.assert_array_equal(codes, np.tile(codes[:n_levels], 60 // n_levels))
    assert len(model.batch_names) == n_levels


OTHER_ROLES = {"random_effect_keys": ["column"], "states_key": "column", "labels_key": "column"}
NO_MATTER = {"states_key": "one level"}  # one state is that effects do not differ between states


@pytest.mark.parametrize("role", OTHER_ROLES)
@pytest.mark.parametrize("name", COLUMNS)
def test_other_columns_of_any_type(expression, name, role):
    values, message = COLUMNS[name]
    adata = expression.copy()
    adata.obs["donor"] = ["x", "x", "y", "y"] * 15
    adata.obs["column"] = values
    setup = {"batch_key": "donor", role: OTHER_ROLES[role]}
    if role == "labels_key" and message is None and not isinstance(values[0], str):
        message = "has levels that are not text"
    if message is not None and NO_MATTER.get(role) != name:
        with pytest.raises(ValueError, match=rf"^{role}='column' (.|\n)*{message}"):
            smt.model.SCMEDAL_RE.setup_anndata(adata, **setup)
        return
    before = adata.obs[["column"]].copy()
    smt.model.SCMEDAL_RE.setup_anndata(adata, **setup)
    model = smt.model.SCMEDAL_RE(adata, n_hidden=(8,), n_latent=2)
    pd.testing.assert_frame_equal(adata.obs[["column"]], before)
    if role == "random_effect_keys":
        assert sorted(map(str, model.factors["column"])) == sorted({str(v) for v in values})


@pytest.mark.parametrize("name", COLUMNS)
def test_genes_are_selected_in_batches_of_any_type(counts, name):
    values, message = COLUMNS[name]
    adata = counts.copy()
    adata.obs["donor"] = values
    options = {"batch_key": "donor", "n_top_genes": 12, "min_genes": 1, "min_cells": 1}
    if message is not None and name != "one level":
        with pytest.raises(ValueError, match=rf"^batch_key='donor' (.|\n)*{message}"):
            smt.pp.preprocess(adata, **options)
        return
    made = smt.pp.preprocess(adata, copy=True, **options)
    n_levels = len(set(values))
    adata.obs["donor"] = [f"level {i % n_levels}" for i in range(N_CELLS)]
    expected = smt.pp.preprocess(adata, copy=True, **options)
    assert list(made.var_names) == list(expected.var_names)


SHAPES = {
    "one gene": lambda a: a[:, :1],
    "two genes": lambda a: a[:, 3:5],
    "a batch of one cell": lambda a: a[(a.obs["donor"] != "c") | (a.obs_names == "cell_5")],
    "a batch for every other cell": lambda a: a,
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"])
def test_odd_shapes(expression, name, shape):
    adata = SHAPES[shape](expression).copy()
    adata.obs["type"] = ["x", "y", "x"] + ["unlabeled"] * (adata.n_obs - 3)
    if shape == "a batch for every other cell":
        adata.obs["donor"] = [f"donor_{i // 2}" for i in range(adata.n_obs)]
    model_class = getattr(smt.model, name)
    model_class.setup_anndata(adata, batch_key="donor", labels_key="type")
    model = model_class(adata, n_hidden=(8,), n_latent=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    assert model.get_latent_representation().shape == (adata.n_obs, 2)
    for table in (model.get_reconstruction(), model.get_corrected_expression()):
        assert table.shape == adata.shape
        assert np.isfinite(table).all(axis=None)
    if name == "SCMEDAL_FEC":
        np.testing.assert_allclose(model.predict(soft=True).sum(axis=1), 1, rtol=1e-5)
    if name == "SCMEDAL_RE":
        effects = model.get_batch_effects()
        assert len(effects) == len(model.batch_names) * adata.n_vars
        assert np.isfinite(effects).all(axis=None)


@pytest.mark.slow
def test_a_thousand_batches(expression):
    rows = np.tile(np.arange(N_CELLS), 50)
    adata = ad.AnnData(expression.X[rows])
    adata.obs["donor"] = [f"donor_{i % 1000}" for i in range(adata.n_obs)]
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata, n_hidden=(8,), n_latent=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False, logger=False)
    effects = model.get_batch_effects()
    assert len(effects) == 1000 * adata.n_vars
    assert np.isfinite(effects).all(axis=None)
    one = model.get_counterfactual_expression(indices=[0, 1], transform_batch="donor_999")
    assert np.isfinite(one).all(axis=None)


@pytest.mark.parametrize("shape", [(0, 20), (60, 0)])
def test_counts_of_nothing(counts, shape):
    with pytest.raises(ValueError, match=f"has {shape[0]} cells and {shape[1]} genes: nothing"):
        preprocessed(counts[: shape[0], : shape[1]].copy())


def test_counts_of_one_cell_or_one_gene(counts):
    one_cell = preprocessed(counts[:1].copy())
    assert np.isfinite(one_cell).all(axis=None)
    options = {"n_top_genes": None, "min_genes": 1, "min_cells": 1}
    one_gene = smt.pp.preprocess(counts[:, :1].copy(), copy=True, **options)
    assert one_gene.n_vars == 1
    assert np.isfinite(one_gene.X).all()


def test_one_cell(expression):
    with pytest.raises(ValueError, match=r"has 1 level\(s\)"):
        latent(expression[:1].copy())


@pytest.mark.slow
class TestLimits:
    @pytest.fixture
    def model(self, expression):
        adata = expression.copy()
        smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
        return smt.model.SCMEDAL_RE(adata, n_hidden=(8,), n_latent=2)

    @pytest.fixture
    def trained(self, model):
        model.train(max_epochs=1, enable_progress_bar=False)
        return model

    @pytest.mark.parametrize(("n_cells", "enough"), [(9, False), (10, True)])
    def test_too_few_cells_for_early_stopping(self, expression, n_cells, enough):
        adata = expression[:n_cells].copy()
        smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
        model = smt.model.SCMEDAL_FE(adata, n_hidden=(8,), n_latent=2)
        if not enough:
            with pytest.raises(ValueError, match=r"validation cells, and there are none.*False"):
                model.train(max_epochs=1)
        model.train(max_epochs=1, early_stopping=enough, enable_progress_bar=False)

    def test_one_gene_may_be_named_by_itself(self, trained):
        one = trained.get_reconstruction(gene_list="g3")
        pd.testing.assert_frame_equal(one, trained.get_reconstruction(gene_list=["g3"]))
        with pytest.raises(ValueError, match=r"1 of the genes .*: g99\."):
            trained.get_reconstruction(gene_list="g99")

    def test_genes_filtered_in_place_after_set_up(self, trained, model):
        n_genes = model.adata.n_vars
        model.adata._inplace_subset_var(np.arange(n_genes - 2))
        message = rf"{n_genes - 2} genes now, which are not the {n_genes} (.|\n)*setup_anndata"
        with pytest.raises(ValueError, match=message):
            trained.get_latent_representation()
        with pytest.raises(ValueError, match=message):
            model.train(max_epochs=1)

    @pytest.mark.parametrize("name", ["", "..", "a\\b"])
    def test_names_of_batches_that_are_no_folders(self, expression, name, tmp_path):
        adata = expression.copy()
        adata.obs["donor"] = adata.obs["donor"].cat.rename_categories({"b": name})
        adata.obs["pct_CD4/CD8"] = 1.0
        smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
        model = smt.model.SCMEDAL_RE(adata, n_hidden=(8,), n_latent=2)
        model.train(max_epochs=1, enable_progress_bar=False)
        out = smt.tl.write_counterfactuals(model, adata, ["a", name], tmp_path / "x.zarr")
        written = ad.read_zarr(out)
        expected = model.get_counterfactual_expression(transform_batch=name)
        layer = {"": "_", "..": "__", "a\\b": "a_b"}[name]
        np.testing.assert_allclose(written.layers[layer], expected, atol=1e-5)
        assert "pct_CD4/CD8" in adata.obs

    def test_losses_in_another_logger(self, model, tmp_path):
        from lightning.pytorch.loggers import CSVLogger

        model.train(max_epochs=2, enable_progress_bar=False, logger=CSVLogger(tmp_path))
        with pytest.raises(ValueError, match=r"another logger.*model\.trainer\.logger"):
            smt.pl.training(model)
        smt.tl.embed(model.adata, model)
