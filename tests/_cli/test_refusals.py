"""Input that a run refuses, with what to do about it."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from ..shell import refuse
from .arguments import BATCH, CHATTY, LABELS, TARGET

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "mend"),
        [
            (
                "--batch-key donr",
                "--batch-key donr: there is no such column of obs. Did you mean donor? There",
            ),
            (
                "--batch-key donor --labels-key x",
                "--labels-key x: there is no such column of obs. There are: ",
            ),
            ("--batch-key donor --layer x", "--layer x: there is no such layer"),
            (
                "--batch-key donor --transform-batch donor_01 donor_9",
                "--transform-batch donor_9: there is no such batch in obs['donor']. Did you mean ",
            ),
            (
                "--batch-key donor --preset papers",
                "--preset papers: there is no such choice. Did you mean paper? There are: ",
            ),
            ("--batch-key donor --size-factor-key donor", "Numeric columns: 'n_umi', 'lane'"),
            ("--batch-key donor donor_01", "unexpected arguments: donor_01"),
            ("--batch-key donor --no-such-option", "No such option"),
            ("--labels-key cell_type", "--batch-key"),
            ("--batch-key donor --seed -1", "Invalid value for '--seed'"),
        ],
    )
    def test_message_names_the_mend(self, files, tmp_path, arguments, mend):
        message = refuse("run", files["counts"], *arguments.split(), "--out", tmp_path / "out")
        assert mend in message
        assert not (tmp_path / "out").exists()

    def test_missing_file(self, tmp_path):
        message = refuse("run", tmp_path / "no.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "There is no file" in message

    def test_file_of_another_kind(self, tmp_path):
        (tmp_path / "text[red].h5ad").write_text("cell,gene")
        message = refuse("run", tmp_path / "text[red].h5ad", *BATCH, "--out", tmp_path / "out")
        assert message.count("text[red].h5ad") == 2  # brackets are not taken for a colour
        assert "cannot be read as an .h5ad file" in message
        assert "write_h5ad" in message

    @pytest.mark.parametrize("has_counts", [False, True])
    def test_scaled_expression(self, expression, tmp_path, has_counts):
        scaled = expression.copy()
        if has_counts:
            scaled.layers["counts"] = scaled.layers["raw"]
        sc.pp.scale(scaled, zero_center=True)
        scaled.write_h5ad(tmp_path / "scaled.h5ad")
        message = refuse("run", tmp_path / "scaled.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "negative values (scaled data?)" in message
        assert ("Pass --layer counts." in message) == has_counts

    @pytest.mark.parametrize(
        ("transform", "found"),
        [
            (np.log1p, "Undo one logarithm"),
            (lambda x: np.sqrt(np.expm1(x)), "square roots"),
            (lambda x: np.floor(np.expm1(x)) * 1.5 + 0.25 * (x > 0), "whole"),
        ],
        ids=["logged twice", "square roots", "fractions"],
    )
    @pytest.mark.parametrize("command", ["run", "evaluate"])
    def test_other_values(self, expression, tmp_path, command, transform, found):
        other = expression.copy()
        other.X.data = transform(other.X.data)
        other.write_h5ad(tmp_path / "other.h5ad")
        arguments = [*BATCH, *LABELS, "--out", tmp_path / "out"]
        arguments += TARGET if command == "evaluate" else []
        message = refuse(command, tmp_path / "other.h5ad", *arguments)
        assert found in message
        assert not (tmp_path / "out").exists()

    def test_missing_values_of_expression(self, expression, tmp_path):
        broken = expression.copy()
        broken.X.data[3] = np.nan
        broken.write_h5ad(tmp_path / "broken.h5ad")
        message = refuse("run", tmp_path / "broken.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "NaN or infinite values in 1 of 250 cells" in message

    def test_levels_of_the_loggers_come_back(self, files, tmp_path):
        before = [logging.getLogger(name).level for name in CHATTY]
        refuse("run", files["counts"], "--batch-key", "x", "--out", tmp_path)
        assert [logging.getLogger(name).level for name in CHATTY] == before

    def test_a_condition_that_no_formula_can_name(self, files, tmp_path):
        adata = ad.read_h5ad(files["counts"])
        adata.obs["a`b"] = adata.obs["condition"]
        adata.write_h5ad(tmp_path / "cells.h5ad")
        arguments = [*BATCH, "--condition-key", "a`b", "--out", tmp_path / "out"]
        output = refuse("run", tmp_path / "cells.h5ad", *arguments)
        assert "Rename the column" in " ".join(output.split())
        assert not (tmp_path / "out").exists()


def test_no_epoch_is_refused(tmp_path):
    message = refuse("demo", "--out", tmp_path, "--max-epochs", 0)
    assert "greater than or equal to 1" in message or "x>=1" in message  # by version of typer
