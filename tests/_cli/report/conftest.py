"""Reports of a tiny run and a tiny evaluation whose names try to break out of the page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scmedal_tools import datasets

SCRIPT, IMAGE = "<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>"
COLUMN = "condition <svg onload=alert(3)>"  # a file can hold no column with a slash
MATHS = "lot_$a_$b"  # as matplotlib reads it, a formula with a mistake
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--allow-file-access-from-files",  # to look into the frames
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--dump-dom",
]
WIDTHS = (400, 1400)
VOID = {"meta", "link", "img", "br", "hr", "input"}

# Opens the page at each width, and writes what it finds into itself.
CHECKER = """<!DOCTYPE html>
<html lang="en"><title>checker</title><body>
{frames}
<script>
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const picture = page.querySelector("figure img");
    const widths = () => picture && [picture.clientWidth, picture.naturalWidth];
    const fitted = widths();
    picture?.click();
    const missing = [...page.images].filter((image) => !(image.complete && image.naturalWidth));
    return {{
      width: frame.contentWindow.innerWidth,
      beyond: root.scrollWidth - root.clientWidth,
      images: page.images.length,
      missing: missing.map((image) => image.alt),
      fitted,
      clicked: widths(),
    }};
  }});
  const text = document.createElement("pre");
  text.id = "found";
  text.textContent = JSON.stringify(found);
  document.body.append(text);
}});
</script></body></html>
"""


class Page(HTMLParser):
    """Elements of a page with their attributes, its text, and whether all tags are closed."""

    def __init__(self, file):
        super().__init__()
        self.elements, self.open, self.styles, self._pieces = [], [], [], []
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if self.open[-1:] == ["style"] else self._pieces).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self._pieces).split())


@pytest.fixture(scope="session")
def read_page():
    return Page


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Give a function that opens a page in a browser without a window.

    It returns what is found at each width after a click on the first figure, with the width of
    that figure and the width that it has by itself; and the lines of the browser's console.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")

    def browse(file):
        folder = tmp_path_factory.mktemp("browser")
        frame = '<iframe src="{}" width="{}" height="900" style="border: 0"></iframe>'
        frames = "\n".join(frame.format(file.as_uri(), width) for width in WIDTHS)
        (folder / "checker.html").write_text(CHECKER.format(frames=frames))
        options = [*OPTIONS, f"--user-data-dir={folder / 'user'}"]
        done = subprocess.run(
            [program, *options, (folder / "checker.html").as_uri()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return json.loads(html.unescape(found[1])), console

    return browse


@pytest.fixture(scope="session")
def hostile():
    """Log-normalised cells with hostile names of a donor, a cell type and a column."""
    adata = datasets.simulated(n_donors=4, n_genes=120, n_cell_types=3, seed=3)[:250].copy()
    donors, types = {"donor_01": SCRIPT, "donor_02": MATHS}, {"type_1": IMAGE, "type_2": MATHS}
    adata.obs["donor"] = adata.obs["donor"].cat.rename_categories(donors)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories(types)
    adata.var_names = [MATHS, *adata.var_names[1:]]
    adata.obs[COLUMN] = adata.obs["condition"]
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(250, 3)).astype("f")
    return adata


def _no_umap(*_, **__):
    """In place of UMAPs, which take long, and which other tests look at."""
    return plt.figure()


@pytest.fixture(scope="session")
def run_done(hostile, tmp_path_factory):
    """A run that has been reported."""
    from scmedal_tools import pl
    from scmedal_tools._cli._report import report_run
    from scmedal_tools._cli._run_job import Run, RunJob

    out = tmp_path_factory.mktemp("run")
    job = RunJob("donor", "cell_type", transform_batch=(MATHS,), max_epochs=2)
    run = Run(hostile.copy(), job, out, lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "embeddings", _no_umap)
        run.execute()
    report_run(run, run.conclude(input="cells <b>.h5ad"))
    return run


@pytest.fixture(scope="session")
def run_report(run_done):
    return run_done.out / "report.html"


@pytest.fixture(scope="session")
def evaluation(hostile, tmp_path_factory):
    """An evaluation of one fold, concluded."""
    from scmedal_tools import pl
    from scmedal_tools._cli._evaluate_job import Evaluation, EvaluationJob
    from scmedal_tools._cli._report import report_evaluation

    targets = (COLUMN, "cell_type")
    models = ("X_mine", "RE")
    job = EvaluationJob("donor", "cell_type", targets, models, n_folds=3, folds=(0,), max_epochs=1)
    out = tmp_path_factory.mktemp("evaluation")
    evaluation = Evaluation(hostile.copy(), job, out, lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "embeddings", _no_umap)
        evaluation.execute()
    report_evaluation(evaluation, evaluation.conclude(input="cells.h5ad"))
    return evaluation


@pytest.fixture(scope="session")
def evaluation_report(evaluation):
    return evaluation.out / "report.html"


@pytest.fixture(params=["run_report", "evaluation_report"])
def report(request):
    """File of either report."""
    return request.getfixturevalue(request.param)
