"""Sections that the reports of all jobs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._few_cells import few_cells
from ._page import Picture, Section, Table, as_text, code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scmedal_tools.bm import Confounding

READING_CONFOUNDING = (
    "Number of cells in every combination; white where there are none. Look for empty fields: "
    "what never occurs together cannot be compared. Filled fields do not show that the design is "
    "balanced, nor that there are enough donors."
)
READING_CURVES = (
    "Check that the curves are flat at the end, and that training and validation agree. A gap "
    "that widens in the reconstruction means overfitting; a gap in the adversary's cross-entropy "
    "is usual. The dotted line is the epoch whose weights were kept. If the adversary cannot "
    "predict the batch, its cross-entropy reaches the black dashed line, that of guessing. A low "
    "loss does not show that the batch is removed, nor that the cell types are kept."
)

READING_GENOMAPS = (
    "Each pixel is a gene, and correlated genes are near each other. Each row is a cell: as "
    "measured, without batch effects (FE or FEC), and as RE predicts it in its own batch (framed "
    "in red) and in others. Compare the others with the framed image, not with the measured cell, "
    "which contains noise; the row below shows the differences. A few cells only suggest where to "
    "look: they are no evidence about a batch. The position of a gene has no meaning by itself."
)


def confounding_section(found: Confounding, pictures: Mapping[tuple[str, str], Path]) -> Section:
    """Which columns are confounded, with a picture for some pairs of columns."""
    few = [few_cells(found.tables[pair]) for pair in pictures if _is_crossed(found, *pair)]
    return Section(
        "Confounding",
        [*str(found).splitlines(), *filter(None, few)],
        [
            Picture(
                file,
                f"Heat map of the number of cells by {group} and {target}.",
                f"{group} and {target}. {READING_CONFOUNDING}",
            )
            for (group, target), file in pictures.items()
        ],
        [
            Table.of_frame(
                f"Cells by {group} and {target}",
                found.tables[group, target].reset_index(),
                folded=True,
            )
            for group, target in pictures
        ],
    )


def _is_crossed(found: Confounding, group: str, target: str) -> bool:
    """Whether levels of one column have several of the other, as donors have cell types."""
    nesting = found.summary.set_index(["group", "target"])["nesting"]
    return str(nesting[group, target]).endswith("crossed")


def parameter_sections(record: Mapping[str, Any], **others: Any) -> list[Section]:
    """Parameters, times and versions, from the record of a job."""
    given = {"input": record.get("input"), "expression": record["expression"]}
    parameters = {**given, **record["parameters"], **others}
    return [
        Section(
            "Parameters",
            [f"All parameters, with the settings of the models, are in {code('run.json')}."],
            tables=[_pairs("Parameters", "parameter", parameters)],
        ),
        Section(
            "Versions and times",
            tables=[
                _pairs("Versions", "package", record["versions"]),
                _pairs("Seconds of each step", "step", record["seconds"]),
            ],
        ),
    ]


def failure_sections(record: Mapping[str, Any]) -> list[Section]:
    """What could not be written, if there is any."""
    if not record["failures"]:
        return []
    table = _pairs("What is missing, and why", "output", record["failures"])
    return [Section("Failures", ["All other outputs are complete."], tables=[table])]


def doubt_sections(record: Mapping[str, Any]) -> list[Section]:
    """What to make sure of, if the values may be something else than they were taken for."""
    if not record["doubt"]:
        return []
    return [Section("Check the expression values", [f"{record['expression']}.", record["doubt"]])]


def size_of(record: Mapping[str, Any]) -> str:
    """Numbers of cells and genes, and where they come from."""
    return (
        f"{record['cells']:,} cells and {record['genes']:,} genes of "
        f"{record.get('input', 'the data')}"
    )


def titled(record: Mapping[str, Any], title: str) -> str:
    """Title of a report that begins with the name of its data, to find it among others."""
    return f"{Path(record.get('input', 'scMEDAL')).name}: {title}"


def _pairs(caption: str, name: str, values: Mapping[str, Any]) -> Table:
    rows = [[str(key), as_text(value)] for key, value in values.items()]
    return Table(caption, [name, "value"], rows)
