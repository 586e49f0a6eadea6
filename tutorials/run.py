"""Run the tutorials and keep their outputs.

    SCMEDAL_DATA=folder python tutorials/run.py 1_quickstart

Without names all are run; without ``SCMEDAL_DATA``, on simulated cells.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client import KernelManager

FOLDER = Path(__file__).resolve().parent
# As Python shows a warning to users about a line of a cell, or of this package: its file, what,
# the line. Of other kinds, such as FutureWarning, the code is to be mended.
WARNING = re.compile(
    r"\s*\S+(?:ipykernel_\d+|scmedal_tools)\S+:\d+: UserWarning: (.*?)\n  [^\n]*\n", re.DOTALL
)
# Of a table that is there as HTML and text: a widget is empty in a notebook that is only read.
NOT_KEPT = ("application/vnd.jupyter.widget-view+json", "text/markdown")


def run(
    notebook: nbformat.NotebookNode,
    folder: Path,
    timeout: int = 3600,
    kernel: KernelManager | None = None,
) -> None:
    """Execute a notebook in a folder, and keep of it what the next run would give again.

    A kernel that is given goes on running.
    """
    resources = {"metadata": {"path": str(folder)}}
    options = {"timeout": timeout, "startup_timeout": 600, "resources": resources}
    NotebookClient(notebook, km=kernel, **options).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = list(with_warnings_as_text(cell.outputs))
            for output in cell.outputs:
                output.pop("execution_count", None)
                data = output.get("data", {})
                for kind in NOT_KEPT:
                    data.pop(kind, None)
                _shrink(data)
                if output.output_type == "execute_result":
                    output.execution_count = None
    notebook.metadata.language_info = {"name": "python"}
    # Progress bars that are gone; the documentation would load scripts from elsewhere for them.
    notebook.metadata.pop("widgets", None)


def with_warnings_as_text(
    outputs: list[nbformat.NotebookNode],
) -> Iterator[nbformat.NotebookNode]:
    """Keep what a cell is warned of, once and without paths; other errors stay as they are."""
    said = set()
    for output in outputs:
        if output.get("name") == "stderr" and not WARNING.sub("", output.text).strip():
            new = [x for x in dict.fromkeys(WARNING.findall(output.text)) if x not in said]
            said.update(new)
            output.name, output.text = "stdout", "".join(f"Warning: {text}\n" for text in new)
            if not new:
                continue
        yield output


def _shrink(data: dict[str, str]) -> None:
    """Keep a picture without transparency, and compress it well.

    All its colours are kept: a palette of 256 would change those of heat maps.
    """
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        shrunk = io.BytesIO()
        picture.save(shrunk, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(shrunk.getvalue()).decode() + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        path = FOLDER / f"{name}.ipynb"
        print(path.name, flush=True)
        notebook = nbformat.read(path, as_version=4)
        run(notebook, FOLDER)
        nbformat.write(notebook, path)
