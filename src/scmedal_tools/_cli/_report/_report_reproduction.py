"""Report of ``scmedal reproduce``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._page import Picture, Section, Table, code, write_page
from ._report_evaluation import MODELS, evaluation_sections
from ._sections import READING_GENOMAPS, failure_sections, parameter_sections, size_of, titled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scmedal_tools._cli._reproduce_job import Reproduction

READING_GENES = (
    f"The paper's test, with which it selects genes at {code('p_value')} < 0.05; "
    f"{code('adj_p_value')} is adjusted by Benjamini and Hochberg's procedure. A "
    "difference describes donors as the model sees them. It is not causal."
)
READING_DIFFERENCES = "Below each cell: the difference of each batch from the cell's own batch."
N_SHOWN = 15


def report_reproduction(reproduction: Reproduction, record: Mapping[str, Any]) -> None:
    """Write ``report.html``: counterparts, evaluation, genomaps and genes."""
    lead = (
        f"{size_of(record)}: counterparts of the figures and tables of the scMEDAL paper. They "
        'have our numbers, not the paper\'s: see "Reproducing the paper" in the documentation. '
        f"{MODELS}"
    )
    write_page(
        reproduction.out / "report.html",
        titled(record, f"the scMEDAL paper's analyses of {record['data_set']}"),
        lead,
        [
            *failure_sections(record),
            _counterparts(reproduction),
            *evaluation_sections(reproduction.evaluation, record),
            _genomaps(reproduction),
            *_genes(reproduction),
            *parameter_sections(record),
        ],
    )


def _counterparts(reproduction: Reproduction) -> Section:
    rows = [[paper, file] for file, paper in reproduction.counterparts.items()]
    text = f"UMAPs, genomaps and gene tests use fold {reproduction.fold}."
    table = Table("Files and their counterparts in the paper", ["paper", "file"], rows)
    return Section("Counterparts", [text], tables=[table])


def _genomaps(reproduction: Reproduction) -> Section:
    figures = reproduction.out / "figures"
    alt = "Genomaps of cells as measured, without batch effects, and in each batch."
    pictures = [
        Picture(figures / "genomaps.png", alt, READING_GENOMAPS),
        Picture(figures / "counterfactuals.png", f"{alt} Differences.", READING_DIFFERENCES),
    ]
    return Section("Genomaps", pictures=pictures)


def _genes(reproduction: Reproduction) -> list[Section]:
    genes = reproduction.genes
    if genes.empty:
        return []
    shown = genes.sort_values("p_value").head(N_SHOWN).reset_index(names="gene")
    columns = ["gene", "group", "reference", "log_fc", "p_value", "adj_p_value"]
    table = Table.of_frame("Smallest p-values", shown[columns])
    return [Section("Genes", [reproduction.found, READING_GENES], tables=[table])]
