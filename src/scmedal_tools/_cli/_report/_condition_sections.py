"""Section on the genes that differ with a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scmedal_tools.tl import OVERALL, SIGNIFICANT

from ._few_cells import MIN_CELLS, few_cells
from ._page import Picture, Section, Table, code

if TYPE_CHECKING:
    from scmedal_tools._cli._run_job import Run

READING_GROUP_EFFECTS = (
    "Left: the effect on the gene with the smallest p-value, with its 95% interval, black where "
    "it excludes zero. Right: one point per sample. Check whether the difference is found in all "
    "donors of a group or comes from a single one. Whether the condition causes an effect depends "
    "on how donors were assigned to it."
)
N_SHOWN = 15
SHOWN_COLUMNS = ["variable", "state", "contrast", "log_fc", "se", "p_value", "adj_p_value"]
SHOWN_COLUMNS += ["n_donors"]


def condition_sections(run: Run) -> list[Section]:
    """Genes that differ most with the condition, and what was not tested."""
    title = f"Effects of {run.job.condition_key}"
    if run.group_effects is None:
        return [Section(title, [f"Not tested. {run.untested}"])] if run.untested else []
    table = run.group_effects.table
    text = (
        f"Genes that differ with {run.job.condition_key} at a false discovery rate of "
        f"{SIGNIFICANT}: {_numbers(table)}. "
        f"Counts were summed over the cells of each {run.job.batch_key} and cell type; "
        f"each {run.job.batch_key} is one replicate. {code('group_effects.csv')} has all genes."
    )
    shown = table.sort_values("p_value").head(N_SHOWN)[SHOWN_COLUMNS]
    caption = (
        "Smallest p-values; log_fc is a difference of base 2 logarithms, se its standard error"
    )
    alt = f"Effect on a gene in every cell type, and the values of each {run.job.batch_key}."
    pictures = [Picture(run.figures / "group_effects.png", alt, READING_GROUP_EFFECTS)]
    return [Section(title, [text, *_untested(run)], pictures, [Table.of_frame(caption, shown)])]


def _numbers(table: pd.DataFrame) -> str:
    """Genes that were found in each cell type, and over all of them."""
    genes = table["variable"].where(table["adj_p_value"] < SIGNIFICANT)
    found = genes.groupby(table["state"], sort=False).nunique()
    where = ("over all types" if state == OVERALL else f"in {state}" for state in found.index)
    return ", ".join(f"{n} {place}" for n, place in zip(found, where, strict=True))


def _untested(run: Run) -> list[str]:
    """Cell types that have no result, and why."""
    job, obs = run.job, run.adata.obs
    if job.labels_key is None or run.group_effects is None:
        return []
    n_cells = pd.crosstab(obs[job.batch_key].astype(str), obs[job.labels_key].astype(str))
    table = run.group_effects.table
    contrasts, tested = set(table["contrast"]), table.groupby("state")["contrast"].agg(set)
    missing = {name: contrasts - tested.get(name, set()) for name in n_cells}
    missing = {name: which for name, which in missing.items() if which}
    if not missing:
        return []
    names = [
        name if which == contrasts else f"{name} ({', '.join(sorted(which))})"
        for name, which in missing.items()
    ]
    return [
        f"Not tested: {', '.join(names)}. A test needs a {job.batch_key} of each group with "
        f"{MIN_CELLS} cells or more of the type, more such replicates than groups, and genes with "
        "enough counts. "
        f"{few_cells(n_cells[list(missing)])}".rstrip()
    ]
