"""The paper's data sets: columns, settings and numbers, which figure and table is of which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class GeneTest:
    """The paper's test of genes between groups of donors (supplement 3.9)."""

    method: Literal["lme", "mannwhitney"]
    label: str
    """Type of the cells that are projected."""
    group: str
    reference: str
    table: str
    found: str
    """What the paper found."""


@dataclass(frozen=True)
class PaperData:
    """One data set of the paper."""

    preset: str
    n_top_genes: int
    batch_key: str
    target: str
    """Column that the paper predicts (Table 1), beside the cell type (Table S12)."""
    sizes: dict[str, int]
    """Table S1."""
    cell_types: tuple[str, ...]
    """Types of the cells in the genomaps."""
    batches: dict[str, tuple[str, ...]]
    """Values of the target from which the genomaps' batches are, with batches that the paper names
    in its text; the others are ours: those with the most cells of these types."""
    batches_each: int
    """Number of batches of each value."""
    counterparts: dict[str, str]
    """Figures and tables of the paper by the file that is their counterpart."""
    colors: tuple[str, ...] = ()
    """Columns by which UMAPs are coloured, beside batch, cell type and target."""
    shared: str | None = None
    """Column with one value in all batches of the genomaps, the one with the most cells."""
    test: GeneTest | None = None
    settings: dict[str, dict[str, Any]] | None = None
    """Arguments of single comparators (supplement 2.3.3)."""


LABELS: Final = "cell_type"
MODELS: Final = (
    "pca", "ae", "FE", "RE", "scvi", "harmony", "scanorama", "saucie", "aec", "FEC", "scanvi",
)  # fmt: skip
N_FOLDS: Final = 5
N_PROJECTED: Final = 300

PAPER_DATA: Final = {
    "aml": PaperData(
        preset="paper-aml",
        n_top_genes=2916,
        batch_key="donor",
        target="patient_group",
        sizes={"cells": 38_417, "genes": 27_899, "batches": 19, "cell types": 21},
        cell_types=("Mono", "Mono-like"),
        batches={"cell line": ("MUTZ3",), "AML": ("AML420B",), "control": ("BM5",)},
        batches_each=1,
        counterparts={
            "tables/data.csv": "Table S1",
            "figures/confounding_cell_type.png": "Fig. S2",
            "figures/embeddings.png": "Fig. 4a, b and Fig. 8 (AML)",
            "figures/clustering.png": "Fig. 4c and Fig. 8 (AML)",
            "tables/clustering.csv": "Tables S8 and S11",
            "tables/classification_patient_group.csv": "Table 1 (AML)",
            "tables/classification_cell_type.csv": "Table S12 (AML)",
            "figures/training_FE.png": "Fig. S7",
            "figures/training_RE.png": "Fig. S7",
            "figures/training_FEC.png": "Fig. S10",
            "figures/genomaps.png": "Fig. 7",
            "figures/counterfactuals.png": "Fig. 7, as differences from the own batch",
            "tables/genes.csv": "Table S14",
        },
        test=GeneTest(
            "mannwhitney", "Mono", "AML", "control", "Table S14", "378 of 2,916 genes (p < 0.05)"
        ),
    ),
    "asd": PaperData(
        preset="paper-asd",
        n_top_genes=2916,
        batch_key="donor",
        target="diagnosis",
        sizes={"cells": 104_559, "genes": 36_501, "batches": 31, "cell types": 17},
        cell_types=("L2/3",),
        batches={"Control": ("5242", "6032", "5976"), "ASD": ("5419",)},
        batches_each=3,
        counterparts={
            "tables/data.csv": "Table S1",
            "figures/embeddings.png": "Fig. 3a and Fig. 8 (ASD)",
            "figures/clustering.png": "Fig. 3b and Fig. 8 (ASD)",
            "tables/clustering.csv": "Tables S7 and S10",
            "tables/classification_diagnosis.csv": "Table 1 (ASD)",
            "tables/classification_cell_type.csv": "Table S12 (ASD)",
            "figures/training_FE.png": "Fig. S6",
            "figures/training_RE.png": "Fig. S6",
            "figures/training_FEC.png": "Fig. S9",
            "figures/genomaps.png": "Fig. 6",
            "figures/counterfactuals.png": "Fig. 6, as differences from the own batch",
            "tables/genes.csv": "Table S13",
        },
        test=GeneTest(
            "lme", "L2/3", "ASD", "Control", "Table S13", "196 of 2,916 genes (p < 0.05)"
        ),
    ),
    "heart": PaperData(
        preset="paper-heart",
        n_top_genes=3000,
        batch_key="batch",
        target="tissue",
        sizes={"cells": 486_134, "genes": 33_538, "batches": 147, "cell types": 13},
        cell_types=("Endothelial", "Myeloid"),
        batches={"SP": (), "LV": ()},
        batches_each=2,
        counterparts={
            "tables/data.csv": "Table S1",
            "figures/embeddings.png": "Fig. 2a, b and Fig. 8 (heart)",
            "figures/embeddings_protocol_donor.png": "Fig. S3 and S4",
            "figures/clustering.png": "Fig. 2c and Fig. 8 (heart)",
            "tables/clustering.csv": "Tables S6 and S9",
            "tables/classification_tissue.csv": "Table 1 (heart)",
            "tables/classification_cell_type.csv": "Table S12 (heart)",
            "figures/training_FE.png": "Fig. S5",
            "figures/training_RE.png": "Fig. S5",
            "figures/training_FEC.png": "Fig. S8",
            "figures/genomaps.png": "Fig. 5",
            "figures/counterfactuals.png": "Fig. 5, as differences from the own batch",
        },
        colors=("protocol", "donor"),
        shared="protocol",
        settings={"saucie": {"mmd_weight": 0.0005}},
    ),
}
