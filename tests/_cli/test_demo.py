"""The demonstration."""

from __future__ import annotations

import functools
import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from scmedal_tools import datasets

from ..shell import succeed

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def test_demo_compares_with_the_truth(tmp_path, monkeypatch):
    small = functools.partial(datasets.simulated, n_donors=4, n_genes=60, n_cell_types=2)
    monkeypatch.setattr(datasets, "simulated", small)
    output = succeed("demo", "--out", tmp_path, "--max-epochs", 2)
    table = pd.read_csv(tmp_path / "effect_recovery.csv")
    methods = {"RE", "additive", "least squares (given cell types)"}
    assert set(table["method"]) == methods
    assert len(table) == 3 * len(table[["cell_type", "source", "target"]].drop_duplicates())
    medians = table.groupby("method")["correlation"].median()
    printed = output.split("Effect of moving")[1]
    for method in methods:
        line = next(line for line in printed.splitlines() if method in line)
        assert f"{medians[method]:.2f}" in line
    assert output.index("Written to") < output.index("Effect of moving")
    assert "effect_recovery.csv" in output
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["effect_recovery"]["additive"]["correlation"] == pytest.approx(
        medians["additive"]
    )
    order = list(medians.sort_values().index)
    assert sorted(order, key=printed.index) == list(record["effect_recovery"]) == order
    report = (tmp_path / "report.html").read_text()
    assert f'<th scope="row">additive</th><td>{medians["additive"]:.3g}</td>' in report
    assert plt.imread(tmp_path / "figures" / "true_shifts.png").std() > 0.02
    assert 'href="figures/true_shifts.pdf"' in report
