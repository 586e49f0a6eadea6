"""Report of ``scmedal evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmedal_tools.bm import file_stem, text_rows

from ._page import Picture, Section, Table, write_page
from ._sections import (
    READING_CURVES,
    confounding_section,
    doubt_sections,
    failure_sections,
    parameter_sections,
    size_of,
    titled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scmedal_tools._cli._evaluate_job import Evaluation

MODELS = (
    "FE, the fixed-effects model of scMEDAL, removes the differences between batches; FEC also "
    "learns from cell-type labels. RE, the random-effects model, describes what each batch does."
)
READING_SCORES = (
    "Points are means over the folds, lines their 95% intervals, which are too narrow for new "
    "donors: folds share donors and training cells. Hollow points are controls."
)
READING_CLUSTERING = (
    "After batch correction, silhouettes of batches should be low and those of cell types high. A "
    "low silhouette of batches does not show that the batch cannot be predicted from the "
    "embedding."
)
READING_EMBEDDINGS = (
    "Test cells of the first fold, to which no model was fitted unless it is marked as joint "
    "below. In an embedding without batch effects, batches mix and cell types are separate; in "
    "RE, which is given the batch label, batches separate. Distances and sizes of groups on a "
    "UMAP have no meaning: use the scores below."
)
READING_CLASSIFICATION = (
    "Compare an embedding combined with RE (filled diamond) with its controls: RE is given the "
    "batch label, so a gain counts only beyond what the batch label alone gives. Where the batch "
    "determines the target, an accuracy over cells shows nothing about new donors."
)


def report_evaluation(evaluation: Evaluation, record: Mapping[str, Any]) -> None:
    """Write ``report.html`` of an evaluation, from its result and the figures in its folder."""
    job = evaluation.job
    lead = (
        f"{size_of(record)}: {', '.join(job.models)} tested "
        f"on {'donors' if job.scheme == 'donors' else 'cells'} to which they were not fitted. "
        f"{MODELS}"
    )
    write_page(
        evaluation.out / "report.html",
        titled(record, "embeddings compared by cross-validation (scMEDAL)"),
        lead,
        [
            *failure_sections(record),
            *evaluation_sections(evaluation, record),
            *parameter_sections(record),
        ],
    )


def evaluation_sections(evaluation: Evaluation, record: Mapping[str, Any]) -> list[Section]:
    """Sections of what an evaluation found."""
    pictures = {
        (evaluation.job.batch_key, claim): evaluation.figures
        / f"confounding_{file_stem(claim)}.png"
        for claim in evaluation.claims
    }
    found = list(evaluation.result.conclusions.values())
    return [
        *doubt_sections(record),
        *([Section("Findings", found)] if found else []),
        confounding_section(evaluation.confounding, pictures),
        _embeddings(evaluation),
        *_scores(evaluation),
        *_votes(evaluation),
        *_training(evaluation),
    ]


def _training(evaluation: Evaluation) -> list[Section]:
    pictures = [
        Picture(
            evaluation.figures / f"training_{file_stem(name)}.png",
            f"Loss of {name} and its terms by epoch.",
            f"{name}, means over the folds. {READING_CURVES}",
        )
        for name in evaluation.trained
    ]
    epochs = evaluation.result.epochs
    if epochs.empty:
        return []
    of_folds = epochs.pivot(index="embedding", columns="fold", values="epochs")
    table = Table.of_frame("Epochs of training", of_folds.add_prefix("fold ").reset_index())
    return [Section("Training", pictures=pictures, tables=[table])]


def _embeddings(evaluation: Evaluation) -> Section:
    alt = f"UMAPs of {', '.join(evaluation.result.test_cells.obsm)}, coloured by the columns."
    picture = Picture(evaluation.figures / "embeddings.png", alt, READING_EMBEDDINGS)
    return Section("Embeddings", pictures=[picture])


def _scores(evaluation: Evaluation) -> list[Section]:
    """Picture and table of each target; then the separation."""
    sections = []
    for target in dict.fromkeys(evaluation.job.target_keys):
        of_target = f"Prediction of {target}", f"classification_{target}"
        sections.append(_scored(evaluation, *of_target, READING_CLASSIFICATION))
    title = "Separation of batches and cell types"
    return [*sections, _scored(evaluation, title, "clustering", READING_CLUSTERING)]


def _scored(evaluation: Evaluation, title: str, name: str, reading: str) -> Section:
    file = evaluation.figures / f"{file_stem(name)}.png"
    alt = f"{title}: scores of every embedding and of the controls, with intervals."
    scored = evaluation.tables[name]
    header, *rows = text_rows(scored)
    table = Table(scored.attrs["caption"], header, rows)
    picture = Picture(file, alt, f"{reading} {READING_SCORES}")
    return Section(title, pictures=[picture], tables=[table])


def _votes(evaluation: Evaluation) -> list[Section]:
    result = evaluation.result
    if not len(result.votes):
        return []
    table = Table.of_frame("Votes of the cells of each held-out batch", result.votes_summary())
    return [Section("Held-out batches", tables=[table])]
