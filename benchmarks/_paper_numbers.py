"""Numbers of AML as the paper prints them: Tables S8, S11, 1 and S12, and widths in its text.

Not copied: the chance accuracies, which do not depend on an embedding.
"""

from __future__ import annotations

from typing import NamedTuple

# What the columns of a table are: a metric, and what of.
INDICES = [("1/DB", "batch"), ("CH", "batch"), ("1/DB", "label"), ("CH", "label")]
COLUMNS = {
    "S8": INDICES,
    "S11": INDICES,
    "1": [("accuracy", "patient_group"), ("balanced_accuracy", "patient_group")],
    "S12": [("accuracy", "cell_type"), ("balanced_accuracy", "cell_type")],
}
# In every column the mean and its 95% interval over five folds; Tables 1 and S12 are in %.
ROWS = {
    "S8": """
        pca        0.20 0.20 0.20 109.69 108.51 110.86 0.27 0.27 0.27 329.80 326.81 332.78
        ae         0.19 0.19 0.20 117.36 112.13 122.59 0.27 0.26 0.27 400.15 355.55 444.75
        FE         0.17 0.17 0.18 93.79 90.59 96.99 0.25 0.25 0.26 323.70 305.35 342.05
        RE         1.50 1.29 1.71 7097.61 6162.38 8032.85 0.18 0.17 0.19 139.51 131.70 147.32
        scvi       0.05 0.05 0.06 14.24 11.88 16.60 0.29 0.24 0.34 885.58 812.33 958.83
        harmony    0.14 0.05 0.22 71.37 22.16 120.58 0.21 0.13 0.29 298.48 263.40 333.57
        scanorama  0.16 0.10 0.21 85.09 53.43 116.76 0.25 0.22 0.28 393.25 253.51 532.99
        saucie     0.16 0.15 0.18 109.44 91.25 127.62 0.30 0.29 0.32 638.71 493.41 784.01
    """,
    "S11": """
        aec        0.13 0.11 0.15 118.27 105.19 131.35 0.33 0.31 0.36 1479.67 1195.23 1764.10
        FEC        0.11 0.10 0.12 116.67 86.30 147.03 0.27 0.23 0.32 1340.80 870.31 1811.29
        scanvi     0.12 0.12 0.13 50.41 45.82 55.00 0.61 0.58 0.64 1449.83 1397.16 1502.50
    """,
    "1": """
        harmony    76.5 76.1 76.9 38.27 36.74 39.8
        harmony + RE 99.96 99.91 100.01 99.92 99.83 100.01
        pca        94.04 93.18 94.9 89.19 87.17 91.21
        pca + RE   99.95 99.9 100.01 99.91 99.81 100.01
        saucie     91.8 90.67 92.93 86.21 83.75 88.66
        saucie + RE 99.94 99.88 100 99.89 99.79 100
        scanorama  85.6 84.44 86.76 67.36 63.25 71.46
        scanorama + RE 99.95 99.9 100 99.91 99.81 100.01
        scanvi     89.87 89.53 90.21 78.09 76.58 79.61
        scanvi + RE 99.95 99.9 100 99.91 99.82 100
        FE         91.56 90.96 92.15 82.97 81.9 84.04
        FE + RE    99.95 99.9 100 99.91 99.82 99.99
        FEC        82.12 78.74 85.5 56.92 48.25 65.58
        FEC + RE   99.95 99.9 100 99.9 99.81 99.99
        scvi       88.43 87.61 89.24 76.13 72.9 79.37
        scvi + RE  99.94 99.88 99.99 99.88 99.78 99.98
    """,
    "S12": """
        harmony    63.58 62.47 64.68 49.24 47.49 51
        harmony + RE 79.56 79.26 79.86 71.42 70.75 72.08
        pca        78.87 78.06 79.67 70.32 68.87 71.77
        pca + RE   79.73 79.28 80.17 71.96 70.96 72.97
        saucie     74.98 74.21 75.75 68.43 67.35 69.51
        saucie + RE 78.82 78.14 79.5 72.69 71.69 73.68
        scanorama  71.01 70.11 71.91 60.65 59.51 61.78
        scanorama + RE 78.7 78.05 79.36 70.74 69.86 71.63
        FE         76.73 75.85 77.61 67.56 65.83 69.29
        FE + RE    78.87 78.49 79.25 70.77 70.21 71.33
        scvi       72.25 71.46 73.04 66.88 65.96 67.81
        scvi + RE  79.15 79.05 79.25 73.82 73.42 74.23
    """,
}
UNITS = {"accuracy": 100, "balanced_accuracy": 100}
# Silhouette widths that sections 2.4 and 2.6 give; the others are in a figure only.
WIDTHS = {"ae": 0.06, "aec": 0.11, "FE": 0.05, "FEC": 0.08, "scvi": 0.03, "scanvi": 0.22}


class Printed(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    lower: float
    upper: float


def embeddings(table: str) -> list[str]:
    """Rows of a table, from top to bottom."""
    return [name for name, _ in _rows(table)]


def _rows(table: str) -> list[tuple[str, list[float]]]:
    n_numbers = 3 * len(COLUMNS[table])
    split = [line.rsplit(maxsplit=n_numbers) for line in ROWS[table].strip().splitlines()]
    return [(name.strip(), [float(number) for number in numbers]) for name, *numbers in split]


NUMBERS = {
    (name, *column): Printed(*[n / UNITS.get(column[0], 1) for n in numbers[3 * i : 3 * i + 3]])
    for table, columns in COLUMNS.items()
    for name, numbers in _rows(table)
    for i, column in enumerate(columns)
}
MEANS = {key: printed.mean for key, printed in NUMBERS.items()}
MEANS |= {(name, "ASW", "label"): width for name, width in WIDTHS.items()}
MEANS[("RE", "ASW", "batch")] = 0.69
