"""What a file does not have is refused from its header."""

import re

import anndata as ad
import numpy as np
import pytest
import typer

from scmedal_tools import train
from scmedal_tools._cli import _header
from scmedal_tools._cli._header import Header, check_header
from scmedal_tools.bm._cross_validation import COMPARATORS, OWN_MODELS

from ..shell import refuse_at_once


@pytest.fixture
def file(adata, tmp_path):
    adata.obs["pct_CD4"] = 0.5
    adata.layers["raw"] = adata.X
    adata.obsm["X_mine"] = np.zeros((adata.n_obs, 2))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_names_are_those_that_anndata_reads(file):
    adata, header = ad.read_h5ad(file), Header.of(file)
    assert list(header.obs) == list(adata.obs)
    assert set(header.obsm) == set(adata.obsm)
    assert set(header.layers) == {"raw", "counts"}


def test_a_file_of_another_kind_has_no_header(tmp_path):
    (tmp_path / "cells.h5ad").write_text("cell,gene")
    assert Header.of(tmp_path / "cells.h5ad") is None
    check_header(tmp_path / "cells.h5ad", {"--batch-key": "donor"}, None, "default")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"--batch-key": "donors"}, {}, "--batch-key donors.* Did you mean donor?"),
        ({"--target-key": ["donor", "x"]}, {}, "--target-key x: there is no such column"),
        ({}, {"layer": "rwa"}, "--layer rwa: there is no such layer. Did you mean raw?"),
        ({}, {"models": ["FE", "X_mine", "FECC"]}, "--models FECC.* Did you mean FEC?"),
        ({}, {"preset": "aml"}, "--preset aml"),
    ],
)
def test_what_is_missing_is_named(file, capsys, columns, options, message):
    options = {"layer": None, "preset": "default"} | options
    with pytest.raises(typer.Exit):
        check_header(file, columns, **options)
    assert re.search(message.replace("?", r"\?"), capsys.readouterr().err)


def test_choices_are_those_of_the_package():
    assert set(_header.PRESETS) == set(train.PRESETS["SCMEDAL_RE"])
    assert set(_header.MODELS) == set(OWN_MODELS)
    assert set(_header.COMPARATORS) == set(COMPARATORS)


def test_nothing_large_is_imported_for_a_refusal(file):
    error = refuse_at_once("run", file, "--batch-key", "donors", "--out", "out")
    assert "Did you mean donor?" in error
