"""Content of the reports: complete, self-contained, and with names as names."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest

from scmedal_tools import pl
from scmedal_tools._cli._report import _report_run
from scmedal_tools._cli._report._page import Picture, Section, Table, as_text, code, write_page
from scmedal_tools._cli._run_job import Run, RunJob

SCRIPT, IMAGE = "<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>"
COLUMN = "condition <svg onload=alert(3)>"
MATHS = "lot_$a_$b"


@pytest.mark.slow
class TestBoth:
    def test_every_image_is_inside_and_described(self, report, read_page):
        images = read_page(report).all("img")
        assert len(images) > 2
        for image in images:
            kind, data = image["src"].split(",", 1)
            assert kind == "data:image/png;base64"
            assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
            assert len(image["alt"]) > 20

    def test_nothing_is_loaded_from_elsewhere(self, report, read_page):
        page = read_page(report)
        for _, attributes in page.elements:
            for name in {"src", "href", "srcset", "action"} & attributes.keys():
                inside = attributes[name].startswith(("data:", "#"))
                assert inside or name == "href"
        assert not re.search(r"@import|url\(", "".join(page.styles))
        assert not page.all("script")

    def test_figures_link_to_their_files(self, report, read_page):
        page = read_page(report)
        links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
        files = [report.parent / unquote(link) for link in links]
        assert all(file.is_file() for file in files)
        n_figures = len(page.all("img"))
        assert [file.suffix for file in files] == [".png", ".pdf"] * n_figures
        assert all(f.read_bytes().startswith(b"%PDF") for f in files if f.suffix == ".pdf")

    def test_title_begins_with_the_name_of_the_data(self, report, read_page):
        source = read_page(report).source
        (title,) = re.findall(r"<title>(.*?)</title>", source)
        (heading,) = re.findall(r"<h1>(.*?)</h1>", source)
        assert title == heading
        assert title.startswith("cells")
        assert ".h5ad: " in title

    def test_models_are_spelt_out_first(self, report, read_page):
        lead = read_page(report).text.split("Findings")[0]
        assert "the fixed-effects model of scMEDAL, removes" in lead
        assert "RE, the random-effects model, " in lead

    def test_code_is_set_as_code(self, report, read_page):
        source = read_page(report).source
        assert "are in <code>run.json</code>." in source
        assert not {"\ufdd0", "\ufdd1"} & set(source)

    def test_names_of_the_data_are_text(self, report, read_page):
        page = read_page(report)
        assert SCRIPT in page.text
        assert IMAGE in page.text
        assert not any(name.startswith("on") for _, found in page.elements for name in found)
        assert not any(image["src"] == "x" for image in page.all("img"))

    def test_sections_are_linked_and_titled(self, report, read_page):
        page = read_page(report)
        assert page.open == []
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.all("h1")) == 1
        ids = {found["id"] for _, found in page.elements if "id" in found}
        links = [link["href"] for link in page.all("a") if link["href"].startswith("#")]
        assert {link.removeprefix("#") for link in links} <= ids
        assert len(links) == len(page.all("section")) == len(page.all("h2"))
        assert len(page.all("caption")) == len(page.all("table"))
        assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("img"))

    def test_parameters_and_versions(self, report, read_page):
        text = read_page(report).text
        record = json.loads((report.parent / "run.json").read_text())
        assert "labels_key cell_type" in text
        assert f"torch {record['versions']['torch']}" in text
        assert f"{record['cells']} cells and {record['genes']} genes" in text


@pytest.mark.slow
class TestRun:
    def test_sections(self, run_report, read_page):
        titles = re.findall(r"<h2 .*?>(.*?)</h2>", read_page(run_report).source)
        assert titles == [
            "Findings",
            "Counterfactuals",
            "Confounding",
            "Embeddings",
            "Effects of donor",
            "Genomaps",
            "Training",
            "Continue in Python",
            "Parameters",
            "Versions and times",
        ]

    def test_shows_the_figures_of_the_folder(self, run_report, read_page):
        shown = [image["src"].split(",")[1] for image in read_page(run_report).all("img")]
        names = ["counterfactuals", "confounding", "embeddings", "batch_effects", "genomaps"]
        names += ["training_fec", "training_re"]
        figures = [run_report.parent / "figures" / f"{name}.png" for name in names]
        assert [base64.b64decode(data) for data in shown] == [f.read_bytes() for f in figures]

    def test_counts_stand_in_a_table(self, run_report, read_page, hostile):
        n_cells = hostile.obs.groupby(["donor", "cell_type"], observed=True).size()
        row = n_cells[SCRIPT]
        expected = f"{SCRIPT} {row[IMAGE]} {row[MATHS]} {row['type_3']}"
        assert expected in read_page(run_report).text

    def test_without_pot_there_is_a_note(self, tmp_path):
        run = SimpleNamespace(figures=tmp_path, job=None)
        section = _report_run._genomaps(run)
        assert section.pictures == ()
        assert 'pip install ".[genomap]"' in section.text[0]

    def test_largest_shifts_stand_in_a_table(self, run_done, run_report, read_page):
        table = run_done.strongest_shifts()[MATHS]
        row = table.iloc[0]
        expected = f"{row.gene} {row.source} {row.cell_type} {row.n_cells} {row['shift']:.3g} "
        assert f"{expected}{row.lower:.3g} {row.upper:.3g}" in read_page(run_report).text

    def test_the_fall_of_a_divergence_is_explained_where_it_is_drawn(self, run_report, read_page):
        captions = re.findall(
            r"<figcaption>(.*?)</figcaption>", read_page(run_report).source, re.S
        )
        about = [caption for caption in captions if "KL divergence of the effects" in caption]
        assert len(about) == 1
        assert "SCMEDAL_RE" in about[0]

    def test_a_network_that_was_still_improving_is_named(self):
        models = {
            "fec": {"class": "SCMEDAL_FEC", "epochs": 9, "best_epoch": 8, "still_improving": True},
            "re": {"class": "SCMEDAL_RE", "epochs": 9, "best_epoch": 8, "still_improving": False},
        }
        run = SimpleNamespace(figures=Path("absent"), models=models)
        _, *said = _report_run._training(run, {"models": models}).text
        assert said == [
            "SCMEDAL_FEC was still improving in the last of its 9 epochs. "
            f"Raise {code('--max-epochs')}."
        ]

    def test_findings_name_it_too(self, run_done, monkeypatch):
        record = json.loads((run_done.out / "run.json").read_text())
        for name, model in record["models"].items():
            model["still_improving"] = name == "re"
        pages = []
        monkeypatch.setattr(_report_run, "write_page", lambda *page: pages.append(page))
        _report_run.report_run(run_done, record)
        ((*_, sections),) = pages
        (findings,) = (section.text for section in sections if section.title == "Findings")
        assert findings[:-1] == run_done.findings
        assert findings[-1].startswith("SCMEDAL_RE was still improving")

    def test_lines_load_cells_and_models(self, run_done, run_report, read_page, monkeypatch):
        (lines,) = re.findall(r"<pre .*?><code>(.*?)</code>", read_page(run_report).source, re.S)
        monkeypatch.chdir(run_report.parent)
        names = {}
        exec(html.unescape(lines), names)
        assert names["adata"].n_obs == run_done.adata.n_obs
        for name, trained in {"fec": "fec", "model": "re"}.items():
            expected = run_done.models[trained].get_latent_representation()
            assert np.array_equal(names[name].get_latent_representation(), expected)

    def test_the_closest_method_is_named_with_the_errors_of_all(self):
        errors = {"additive": 1.625, "least squares": 0.612, "RE": 0.249}
        methods = {name: {"slope": 1.0, "relative_error": e} for name, e in errors.items()}
        assert _report_run._closest(methods) == (
            "In this simulation RE is closest to the truth: squared error, relative to that of no "
            "effect at all, 0.25, against 0.61 (least squares) and 1.62 (additive)."
        )
        methods["additive"]["relative_error"] = 0.1
        assert _report_run._closest(methods).startswith("In this simulation additive is")

    def test_epochs(self, run_report, read_page):
        assert "SCMEDAL_RE 2 " in read_page(run_report).text


@pytest.mark.slow
class TestEvaluation:
    def test_sections(self, evaluation_report, read_page):
        text = read_page(evaluation_report).text
        titles = [
            "Findings",
            "Confounding",
            "Embeddings",
            f"Prediction of {COLUMN}",
            "Prediction of cell_type",
            "Separation of batches and cell types",
            "Training",
            "Parameters",
        ]
        at = 0
        for title in titles:
            at = text.index(title, at) + len(title)

    def test_confounding_and_conclusion_are_said(self, evaluation, evaluation_report, read_page):
        text = read_page(evaluation_report).text
        for line in str(evaluation.confounding).splitlines():
            assert " ".join(line.split()) in text
        assert len(evaluation.result.conclusions) == 2
        for sentence in evaluation.result.conclusions.values():
            assert sentence in text

    def test_tables_have_all_rows(self, evaluation, evaluation_report, read_page):
        text = read_page(evaluation_report).text
        table = evaluation.tables["classification_cell_type"]
        for (kind, name), row in table["balanced accuracy"].iterrows():
            assert re.search(rf"{re.escape(f'{kind} {name}')} [\d.]+ {row['mean']:.2f} ", text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (float("nan"), "none"),
        (True, "yes"),
        (12345, "12,345"),
        (0.123456, "0.123"),
        (("a", "b"), "a, b"),
        ((), "none"),
        ({"FE": {"max_epochs": 1}}, "FE max_epochs 1"),
        ("text", "text"),
    ],
)
def test_values_as_text(value, expected):
    assert as_text(value) == expected


def test_attributes_are_escaped(tmp_path, read_page):
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG")
    alt = '" onload="alert(3)'
    section = Section("x", pictures=[Picture(png, alt, "c")], tables=[Table(alt, ["a"], [["b"]])])
    write_page(tmp_path / "page.html", "t", "l", [section])
    page = read_page(tmp_path / "page.html")
    assert page.all("img") == [{"src": "data:image/png;base64,iVBORw==", "alt": alt}]
    assert page.all("div")[0]["aria-label"] == alt


@pytest.mark.slow
def test_a_network_that_was_given_labels_is_named(run_report, read_page):
    assert "FEC was given cell-type labels" in read_page(run_report).text


@pytest.mark.slow
def test_cells_are_kept_where_a_figure_fails(hostile, tmp_path, monkeypatch, drawn_figures):
    def fail(*_, **__):
        raise RuntimeError("no figure")

    monkeypatch.setattr(pl, "embeddings", fail)
    drawn_figures.add("embeddings")
    monkeypatch.setattr(Run, "_draw_genomaps", lambda _: plt.figure())
    run = Run(hostile.copy(), RunJob("donor", max_epochs=1), tmp_path, lambda line: None)
    run.execute()
    assert any("no figure" in failure for failure in run.steps.failures.values())
    assert "X_scmedal_re" in ad.read_h5ad(tmp_path / "adata.h5ad").obsm
