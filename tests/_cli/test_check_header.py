"""What a file does not have is refused from its header."""

import re
from typing import get_args

import anndata as ad
import h5py
import numpy as np
import pytest
import typer

from scmedal_tools import train
from scmedal_tools._cli import _check_header
from scmedal_tools._cli._check_header import check_batches, check_header, check_reference
from scmedal_tools._data import _checks, check_obs
from scmedal_tools.bm._cross_validation import COMPARATORS, OWN_MODELS
from scmedal_tools.train import _folds

from ..shell import refuse, refuse_at_once
from .arguments import LEVELS_STORED


def test_a_file_of_another_kind_is_left_to_the_reading(tmp_path):
    (tmp_path / "cells.h5ad").write_text("cell,gene")
    check_header(tmp_path / "cells.h5ad", {"--batch-key": "donor"}, None, "default")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"--batch-key": "donors"}, {}, "--batch-key donors.* Did you mean donor?"),
        ({"--target-key": ["donor", "x"]}, {}, "--target-key x: there is no such column"),
        (
            {"--batch-key": "donor", "--labels-key": "donor"},
            {},
            "--labels-key donor: that is the --batch-key. .*There are: ",
        ),
        (
            {"--batch-key": "donor", "--condition-key": "donor"},
            {},
            "--condition-key donor: that is",
        ),
        ({"--batch-key": "donor", "--target-key": ["donor"]}, {}, "--target-key donor: that is"),
        ({}, {"layer": "rwa"}, "--layer rwa: there is no such layer. Did you mean raw?"),
        ({}, {"models": ["FE", "X_mine", "FECC"]}, "--models FECC.* Did you mean FEC?"),
        ({}, {"preset": "aml"}, "--preset aml"),
    ],
)
def test_what_is_missing_is_named(file_with_names, capsys, columns, options, message):
    options = {"layer": None, "preset": "default"} | options
    with pytest.raises(typer.Exit):
        check_header(file_with_names, columns, **options)
    said = capsys.readouterr().err
    assert re.search(message.replace("?", r"\?"), said)
    assert "_scvi" not in said


class TestBatches:
    """Targets are compared with the levels in the file, however they are stored."""

    @pytest.mark.parametrize("column", LEVELS_STORED)
    def test_every_level_is_taken(self, file_with_levels, column):
        levels = ad.read_h5ad(file_with_levels).obs[column].astype(str).unique()
        check_batches(file_with_levels, column, list(levels))

    def test_another_name_is_refused(self, file_with_levels, capsys):
        with pytest.raises(typer.Exit):
            check_batches(file_with_levels, "donor", ["donor_01", "donor_9"])
        assert "--transform-batch donor_9: there is no such batch" in capsys.readouterr().err

    def test_a_category_without_cells_is_no_batch(self, adata, tmp_path, capsys):
        adata.obs["donor"] = adata.obs["donor"].cat.add_categories("donor_99")
        adata.uns.clear()
        adata.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(tmp_path / "a.h5ad") as file:
            assert len(file["obs/donor/categories"]) == 5
        with pytest.raises(typer.Exit):
            check_batches(tmp_path / "a.h5ad", "donor", ["donor_99"])

    @pytest.mark.parametrize("column", ["donors", "old"])
    def test_what_the_header_does_not_tell_is_left_to_the_reading(self, file_with_levels, column):
        with h5py.File(file_with_levels, "a") as file:
            file["obs/old"] = np.zeros(3)
            file["obs/old"].attrs["categories"] = "a reference, as anndata 0.6 wrote it"
        check_batches(file_with_levels, column, ["donor_9"])

    def test_numbers_may_be_written_without_their_fraction(self, file_with_levels, capsys):
        check_batches(file_with_levels, "lane_float", ["1", "2.0"])
        with pytest.raises(typer.Exit):
            check_batches(file_with_levels, "lane_float", ["9"])
        assert "There are: 0.0, 1.0, 2.0, 3.0" in capsys.readouterr().err

    @pytest.mark.slow
    def test_nothing_large_is_imported(self, file_with_levels):
        options = ["--batch-key", "donor", "--transform-batch", "donor_9", "--out", "out"]
        assert "no such batch in obs['donor']" in refuse_at_once("run", file_with_levels, *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "key"),
    [("run", "--labels-key"), ("run", "--condition-key"), ("evaluate", "--target-key")],
)
def test_the_batches_once_more_are_refused_at_once(file_with_levels, command, key):
    options = {"--batch-key": "donor", "--labels-key": "condition", "--out": "out", key: "donor"}
    given = [text for option in options.items() for text in option]
    assert f"{key} donor: that is the --batch-key" in refuse_at_once(
        command, file_with_levels, *given
    )


class TestReference:
    @pytest.mark.parametrize(("column", "name"), [("lane_float", "1"), ("late", "True")])
    def test_a_group_is_taken(self, file_with_levels, column, name):
        check_reference(file_with_levels, column, name)

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            ("condition", "--reference controls: there is no such group in obs['condition']. Did "
             "you mean control? There are: control, disease."),
            (None, "--reference controls is a group of --condition-key, which is missing."),
        ],
    )  # fmt: skip
    def test_others_are_refused(self, file_with_levels, capsys, column, message):
        with pytest.raises(typer.Exit):
            check_reference(file_with_levels, column, "controls")
        assert message in capsys.readouterr().err

    @pytest.mark.slow
    def test_by_the_command_at_once(self, file_with_levels):
        keys = ["--batch-key", "donor", "--condition-key", "condition", "--reference", "x"]
        assert "--reference x: " in refuse_at_once("run", file_with_levels, *keys, "--out", "out")


NO_BATCHES = {
    "one": r"--batch-key one has 1 level\(s\) \(a\), and at least 2 are needed: a random",
    "score": "--batch-key score has 238 levels that are numbers with fractions .*measurement",
    "rounded": "--batch-key rounded has 22 levels that are numbers with fractions",
    "barcode": "--batch-key barcode has 240 levels .*in 240 cells: .*the names of the cells",
    "count": "--batch-key count has 121 levels .*in 240 cells",
}


class TestColumnsThatAreNoBatches:
    """Refused by the rules of the models, in words for the shell."""

    @pytest.fixture(scope="class")
    def path(self, cells, tmp_path_factory):
        adata, file = cells.copy(), tmp_path_factory.mktemp("columns") / "cells.h5ad"
        n = adata.n_obs
        adata.obs["one"] = "a"
        adata.obs["score"] = np.linspace(0, 1, n)
        adata.obs["rounded"] = np.arange(n) % 25 / 10
        adata.obs["barcode"] = [f"cell {i}" for i in range(n)]
        adata.obs["count"] = np.arange(n) // 2 + (np.arange(n) == n - 1)
        adata.obs["pair"] = [f"pair {i // 2}" for i in range(n)]
        adata.obs["step"] = np.arange(n) % 23 / 10
        adata.write_h5ad(file, convert_strings_to_categoricals=False)
        return file

    @pytest.mark.parametrize("column", [*NO_BATCHES, "pair", "step", "donor"])
    def test_by_the_rules_of_the_models(self, path, column, capsys):
        if column not in NO_BATCHES:
            check_batches(path, column)
            check_obs(ad.read_h5ad(path), column)
            return
        with pytest.raises(ValueError, match=column):
            check_obs(ad.read_h5ad(path), column)
        with pytest.raises(typer.Exit):
            check_batches(path, column)
        message = capsys.readouterr().err
        assert re.search(NO_BATCHES[column], message)
        assert "Choose a column such as the donor or sample. There are: " in message
        assert "adata" not in message

    @pytest.mark.slow
    @pytest.mark.parametrize("command", ["run", "evaluate"])
    def test_nothing_large_is_imported(self, path, command):
        options = ["--labels-key", "cell_type"] if command == "evaluate" else []
        error = refuse_at_once(command, path, "--batch-key", "score", "--out", "out", *options)
        assert "it looks like a measurement" in error


@pytest.mark.parametrize("scheme", _check_header.FEWEST_FOLDS)
def test_too_few_folds(file_with_names, adata, scheme):
    fewest = _check_header.FEWEST_FOLDS[scheme]
    with pytest.raises(ValueError, match=f"needs at least {fewest}"):
        train.cross_validation_folds(
            adata, "donor", "cell_type", n_folds=fewest - 1, scheme=scheme
        )
    train.cross_validation_folds(adata, "donor", "cell_type", n_folds=fewest, scheme=scheme)
    keys = ["--batch-key", "donor", "--labels-key", "cell_type", "--out", "out"]
    options = ["--scheme", scheme, "--n-folds", fewest - 1]
    error = refuse("evaluate", file_with_names, *keys, *options)
    assert f"--n-folds {fewest - 1}: --scheme {scheme} needs at least {fewest}." in error


def test_choices_are_those_of_the_package():
    assert set(_check_header.PRESETS) == set(train.PRESETS["SCMEDAL_RE"])
    assert set(_check_header.MODELS) == set(OWN_MODELS)
    assert set(_check_header.COMPARATORS) == set(COMPARATORS)
    assert set(_check_header.SCHEMES) == set(get_args(_folds.Scheme))
    assert _check_header.MANY_FRACTIONS == _checks.MANY_FRACTIONS


@pytest.mark.slow
def test_nothing_large_is_imported_for_a_refusal(file_with_names):
    error = refuse_at_once("run", file_with_names, "--batch-key", "donors", "--out", "out")
    assert "Did you mean donor?" in error
