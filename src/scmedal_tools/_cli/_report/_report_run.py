"""Report of ``scmedal run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmedal_tools._cli._shifts_with_intervals import FEWEST_CELLS, INTERVAL, N_CELLS, N_DRAWS
from scmedal_tools._how_to_install import how_to_install

from ._condition_sections import condition_sections
from ._page import Picture, Section, Table, as_text, code, write_page
from ._sections import (
    READING_CURVES,
    READING_GENOMAPS,
    confounding_section,
    doubt_sections,
    failure_sections,
    parameter_sections,
    size_of,
    titled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scmedal_tools._cli._run_job import Run

READING_EMBEDDINGS = (
    "PCA shows how large the batch effects are. After batch correction (fixed effects) batches "
    "should mix and cell types stay separate. In the random effects batches separate; that alone "
    "means little, because RE is given the batch label. Distances and sizes of groups on a UMAP "
    f"have no meaning: {code('scmedal evaluate')} measures the separation."
)
GIVEN_LABELS = (
    "FEC was given cell-type labels, so separate cell types in its embedding are no evidence. "
    f"{code('scmedal evaluate')} tests it on cells to which it was not fitted."
)
READING_EFFECTS = (
    "Left: the genes with the largest effects; batches with similar effects on all genes are "
    "joined early in the tree, a batch with few cells late because little is known about it. "
    "Right: the first of these genes with 90% intervals, black where they exclude zero. The genes "
    "were selected for their effects, so some intervals exclude zero only because of this "
    "selection. If batch and condition are confounded, an effect contains both. No effect is "
    "causal."
)
READING_SHIFTS = (
    "Shift of each gene, with its 90% interval, in the group of cells where it is largest. These "
    "genes were selected for their shifts, and the network was trained once: intervals over "
    "several seeds would be wider. A shift includes everything that differs between the batches, "
    "and is not causal."
)
READING_KL = (
    "The KL divergence of the effects can fall halfway through training: from then on the "
    "scales of the effects are fitted, and effects without evidence shrink to zero."
)
READING_TRUTH = (
    "Each point is a gene in the cells of one donor and type, predicted in the target donor; "
    "darker where there are more points. On the dashed line predicted and true shifts are equal. "
    "Correlations are medians over the donors."
)
N_OPEN = 3
"""Tables of targets that are shown; of more targets they are folded."""


def report_run(run: Run, record: Mapping[str, Any]) -> None:
    """Write ``report.html`` of a run that has been executed, from the figures in its folder."""
    fixed = "FEC" if "fec" in run.models else "FE"
    learns = ", and also learns from the cell types" if "fec" in run.models else ""
    lead = (
        f"{size_of(record)}. {fixed}, the fixed-effects model of scMEDAL, removes the differences "
        f"between batches ({run.job.batch_key}){learns}. RE, the random-effects model, estimates "
        "what each batch does to the expression of every gene."
    )
    sections = [
        *failure_sections(record),
        *doubt_sections(record),
        Section("Findings", [*run.findings, *_still_improving(record)]),
        *_counterfactuals(run),
        *_recovery(run, record),
        _confounding(run),
        _embeddings(run),
        _effects(run),
        *condition_sections(run),
        _genomaps(run),
        _training(run, record),
        _models(record),
        *parameter_sections(record),
    ]
    write_page(
        run.out / "report.html",
        titled(record, "batch correction and batch effects (scMEDAL)"),
        lead,
        sections,
    )


def _counterfactuals(run: Run) -> list[Section]:
    """Genes with the largest shifts to each target."""
    strongest = run.strongest_shifts()
    if not strongest:
        return []
    of = f"{run.job.batch_key}{' and cell type' if run.job.labels_key else ''}"
    text = (
        f"Mean expression of the cells of each {of}, predicted as if they came from another "
        f"{run.job.batch_key}. "
        "The shift is the counterfactual minus the reconstruction, in log-expression, with the "
        f"{INTERVAL:.0%} interval of {N_DRAWS} posterior draws. The draws use up to about "
        f"{N_CELLS:,} cells (at least {FEWEST_CELLS} of each group, or all it has), and the "
        "interval is centred on the shift of all cells. The tables have the largest shifts "
        f"whose interval excludes zero, in groups of {FEWEST_CELLS} cells or more; "
        f"{code('counterfactual_means.h5ad')} has all genes and groups."
    )
    none = [target for target, table in strongest.items() if table.empty]
    without = [f"No such shift to {', '.join(none)}."] if none else []
    tables = [
        Table.of_frame(f"Largest shifts to {target}", table, folded=len(strongest) > N_OPEN)
        for target, table in strongest.items()
        if not table.empty
    ]
    alt = "Genes in rows, with the shift of each and its interval, for every target."
    pictures = [Picture(run.figures / "counterfactuals.png", alt, READING_SHIFTS)]
    return [Section("Counterfactuals", [text, *without], pictures, tables)]


def _confounding(run: Run) -> Section:
    if run.confounding is None:
        text = (
            f"No column with cell types ({code('--labels-key')}) or a condition "
            f"({code('--condition-key')}) was given, so we did not check whether they are "
            f"confounded with {run.job.batch_key}."
        )
        return Section("Confounding", [text])
    pairs = {(run.job.batch_key, claim): run.confounding_figure(claim) for claim in run.claims}
    return confounding_section(run.confounding, pairs)


def _training(run: Run, record: Mapping[str, Any]) -> Section:
    pictures = [
        Picture(
            file,
            f"Curves of the main terms of the loss of {_name(name)}.",
            f"{_name(name)}. {READING_CURVES}{_about_kl(run, name)}",
        )
        for name in run.models
        if (file := run.figures / f"training_{name}.png").is_file()
    ]
    models = record["models"].values()
    rows = [[m["class"], str(m["epochs"]), _epoch(m["best_epoch"])] for m in models]
    table = Table("Epochs, counted from 0", ["model", "trained", "kept"], rows)
    text = [] if pictures else ["There are no curves: the training had one epoch."]
    return Section("Training", [*text, *_still_improving(record)], pictures, [table])


def _still_improving(record: Mapping[str, Any]) -> list[str]:
    return [
        f"{m['class']} was still improving in the last of its {m['epochs']} epochs. "
        f"Raise {code('--max-epochs')}."
        for m in record["models"].values()
        if m["still_improving"]
    ]


def _models(record: Mapping[str, Any]) -> Section:
    """Lines that load the cells and the models."""
    load = [
        f'{_variable(name)} = smt.model.{m["class"]}.load("models/{name}", adata)'
        for name, m in record["models"].items()
    ]
    lines = [
        "import anndata",
        "import scmedal_tools as smt",
        "",
        'adata = anndata.read_h5ad("adata.h5ad")',
        *load,
    ]
    text = "In the folder of this report, this loads the cells and the trained models:"
    return Section("Continue in Python", [text], lines="\n".join(lines))


def _variable(network: str) -> str:
    """Name of a model in code, as in the guide: ``re`` is a module of Python."""
    return "model" if network == "re" else network


def _about_kl(run: Run, name: str) -> str:
    return f" {READING_KL}" if name == "re" and run.job.preset == "default" else ""


def _embeddings(run: Run) -> Section:
    colors = " and ".join(run.colors)
    alt = f"UMAPs of PCA, fixed and random effects, coloured by {colors}."
    picture = Picture(run.figures / "embeddings.png", alt, READING_EMBEDDINGS)
    text = [GIVEN_LABELS] if "fec" in run.models else []
    return Section("Embeddings", text, pictures=[picture])


def _effects(run: Run) -> Section:
    alt = f"Heat map and forest plot of the effects of {run.job.batch_key} on genes."
    picture = Picture(run.figures / "batch_effects.png", alt, READING_EFFECTS)
    text = (
        "What each batch does to log-expression, estimated by RE. "
        f"Intervals come from few posterior draws, for a first look: "
        f"{code('smt.pl.batch_effects')} uses more draws of the saved model."
    )
    return Section(f"Effects of {run.job.batch_key}", [text], [picture])


def _genomaps(run: Run) -> Section:
    file = run.figures / "genomaps.png"
    if not file.is_file():
        return Section("Genomaps", [f"Not drawn: genomaps need POT. {how_to_install('genomap')}"])
    alt = f"Genomaps of cells as measured, without batch effects, and in each {run.job.batch_key}."
    text = (
        "Cells of the largest batches and the most variable genes; "
        f"{code('smt.pl.genomap_panel')} draws all."
    )
    return Section("Genomaps", [text], [Picture(file, alt, READING_GENOMAPS)])


def _recovery(run: Run, record: Mapping[str, Any]) -> list[Section]:
    """Of simulated data, how well the true effects are found."""
    if "effect_recovery" not in record:
        return []
    methods = record["effect_recovery"]
    metrics = list(next(iter(methods.values())))
    rows = [[name, *(as_text(of[metric]) for metric in metrics)] for name, of in methods.items()]
    caption = "Effect of predicting a cell type in another donor: medians over all such cases"
    table = Table(caption, ["estimated by", *(m.replace("_", " ") for m in metrics)], rows)
    text = (
        "Correlation with the truth over genes, slope (1 is calibrated), and squared error "
        "relative to the true effect. RE is compared with two simple estimates: additive, the "
        "difference of the donors' means, and least squares on donor and cell type. Recovering "
        "simulated effects does not show that the effects in your data are recovered."
    )
    alt = "Predicted against true shifts of all genes, in a panel for each cell type."
    pictures = [Picture(run.figures / "true_shifts.png", alt, READING_TRUTH)]
    paragraphs = [text, _closest(methods)]
    return [Section("Compared with the truth", paragraphs, pictures, [table])]


def _closest(methods: Mapping[str, Mapping[str, float]]) -> str:
    """Which method has the smallest error, beside the errors of the others."""
    errors = {name: of["relative_error"] for name, of in methods.items()}
    best, *others = sorted(errors, key=errors.__getitem__)
    beside = " and ".join(f"{errors[name]:.2f} ({name})" for name in others)
    return (
        f"In this simulation {best} is closest to the truth: squared error, relative to that of "
        f"no effect at all, {errors[best]:.2f}, against {beside}."
    )


def _name(network: str) -> str:
    return f"SCMEDAL_{network.upper()}"


def _epoch(best: int | None) -> str:
    return "the last" if best is None else str(best)
