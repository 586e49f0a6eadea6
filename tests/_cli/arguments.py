"""Arguments of commands, and the files that they leave."""

from __future__ import annotations

N_CELLS = 250
BATCH, LABELS = ["--batch-key", "donor"], ["--labels-key", "cell_type"]
TARGET, THREE_FOLDS = ["--target-key", "condition"], ["--n-folds", 3]
QUICK = ["--max-epochs", 1]
# Columns of the fixture ``file_with_levels``.
LEVELS_STORED = (
    *("donor", "text", "object", "late"),
    *("lane", "lane_category", "lane_float", "lane_nullable"),
)
# The loggers that a command silences.
CHATTY = ("lightning.pytorch", "lightning.fabric", "scvi")


def evaluate(file, out, *options):
    return ["evaluate", file, *BATCH, *LABELS, *TARGET, "--out", out, *THREE_FOLDS, *options]


def files_in(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
