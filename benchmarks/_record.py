"""Results of a benchmark: a JSON file with what made them, and tables printed from it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("scmedal-tools", "scvi-tools", "torch", "anndata", "scanpy", "scikit-learn", "numpy")


def data_folder() -> Path:
    """Folder of the real data sets: SCMEDAL_DATA, else the sibling shared/data."""
    return Path(os.environ.get("SCMEDAL_DATA", ROOT.parent / "shared" / "data"))


def _source() -> dict:
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    changed = subprocess.check_output(
        [*git, "status", "--porcelain", "--", "src", "benchmarks/*.py"], text=True
    )
    return {"commit": commit, "uncommitted_changes": bool(changed.strip())}


# Read at the start: what runs is the code that was imported.
SOURCE = _source()


def save(name: str, results: list[dict], **about) -> Path:
    """Write ``results/<name>.json``."""
    record = {
        **SOURCE,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "cores": os.cpu_count(),
        **about,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def load(name: str) -> dict:
    """Read ``results/<name>.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def saved(name: str) -> list[dict]:
    """Results saved so far; none at the first run."""
    return load(name)["results"] if (RESULTS / f"{name}.json").exists() else []


def markdown(rows: list[dict], columns: dict[str, str]) -> str:
    """Markdown table of some keys of the rows; ``columns`` maps titles to format strings."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(f.format(**row) for f in columns.values()) + " |" for row in rows]
    return "\n".join(lines)
