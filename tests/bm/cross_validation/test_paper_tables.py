"""Tables in the paper's shape: which number is where, and what the files say of awkward names."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from markdown_it import MarkdownIt
from scipy import stats

from scmedal_tools.bm import CrossValidation, paper_tables, write_tables

ORDER = ["pca", "pca + RE", "harmony", "harmony + RE", "RE"]
CONTROLS = ["batch label", "pca + batch label", "RE, one epoch"]
INDICES = ["ASW", "CH", "1/DB"]
ACCURACIES = ["accuracy", "balanced_accuracy"]
AWKWARD = r"50%_of|_C:\new & {*a*} #1 ~$x^2$ <b> `c` [d] __init__ &amp;"


def cross_validation(n_folds=3, targets=("sex",), awkward=None, scheme="cells"):
    """Random scores in the form and order of ``cross_validate``."""
    rng = np.random.default_rng(0)
    rows = []
    for fold in range(n_folds):
        alone = ["pca", "harmony", "RE", "RE, one epoch"]
        of_all = ["chance", "batch label", *ORDER[:2], "pca + batch label", *ORDER[2:]]
        rows += [
            (fold, name, of, metric)
            for name in alone
            for of in ("batch", "batch within label", "label")
            for metric in INDICES
        ]
        rows += [
            (fold, name, target, metric)
            for target in targets
            for name in [*of_all, "RE, one epoch"]
            for metric in ACCURACIES
        ]
    table = pd.DataFrame(rows, columns=["fold", "embedding", "of", "metric"])
    table["value"] = rng.uniform(0.1, 0.9, len(table))
    table["control"] = table["embedding"].isin([*CONTROLS, "chance"])
    table["joint"] = table["embedding"].str.startswith("harmony")
    table = table.assign(split="test", seed=table["fold"])
    if awkward:
        table["embedding"] = table["embedding"].replace("pca", awkward)
    about = {"target_keys": list(targets), "folds": [*range(n_folds)], "scheme": scheme}
    none = pd.DataFrame()
    return CrossValidation(table, none, pd.Series(dtype=int), about, AnnData(), none, {})


def values_of(result, embedding, of, metric):
    rows = result.table.query("embedding == @embedding and of == @of and metric == @metric")
    return rows["value"].to_numpy()


def with_limits(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    return [values.mean(), low, high]


class TestTables:
    def test_one_of_clusters_and_one_for_each_target(self):
        tables = paper_tables(cross_validation(targets=("sex", "cell_type")))
        assert list(tables) == ["clustering", "classification_sex", "classification_cell_type"]

    def test_rows_are_embeddings_then_controls_then_chance(self):
        tables = paper_tables(cross_validation())
        kinds = ["embedding"] * 2 + ["joint"] * 2 + ["embedding"] + ["control"] * 3 + ["chance"]
        expected = list(zip(kinds, [*ORDER, *CONTROLS, "chance"], strict=True))
        assert list(tables["classification_sex"].index) == expected
        names = [("embedding", "pca"), ("joint", "harmony"), ("embedding", "RE")]
        assert list(tables["clustering"].index) == [*names, ("control", "RE, one epoch")]

    def test_columns_are_in_the_order_of_the_paper(self):
        tables = paper_tables(cross_validation())
        groups = [column[:-1] for column in tables["clustering"].columns[::3]]
        indices = ["ASW", "1/DB", "CH"]
        assert groups == [(of, index) for of in ("batch", "cell type") for index in indices]
        groups = [column[0] for column in tables["classification_sex"].columns[::3]]
        assert groups == ["accuracy", "balanced accuracy"]

    @pytest.mark.parametrize(("of", "shown"), [("batch", "batch"), ("label", "cell type")])
    @pytest.mark.parametrize("metric", INDICES)
    def test_indices(self, of, shown, metric):
        result = cross_validation()
        row = paper_tables(result)["clustering"][shown][metric].loc["joint"].loc["harmony"]
        assert list(row.index) == ["mean", "lower", "upper"]
        assert list(row) == pytest.approx(with_limits(values_of(result, "harmony", of, metric)))

    @pytest.mark.parametrize("metric", ACCURACIES)
    def test_accuracies_are_percentages(self, metric):
        result = cross_validation()
        table = paper_tables(result)["classification_sex"]
        row = table.loc[("embedding", "pca + RE"), metric.replace("_", " ")]
        expected = with_limits(100 * values_of(result, "pca + RE", "sex", metric))
        assert list(row) == pytest.approx(expected)

    def test_target_that_is_called_like_a_score(self):
        tables = paper_tables(cross_validation(targets=("label",)))
        assert tables["clustering"].shape == (4, 18)
        assert not tables["clustering"].isna().any(axis=None)
        assert len(tables["classification_label"]) == len(ORDER) + len(CONTROLS) + 1

    def test_one_fold_has_no_limits(self):
        table = paper_tables(cross_validation(n_folds=1))["classification_sex"]
        accuracy = table["accuracy"]
        assert accuracy["mean"].notna().all()
        assert accuracy[["lower", "upper"]].isna().all(axis=None)
        assert "one fold of cells, without an interval" in table.attrs["caption"]

    def test_caption(self):
        tables = paper_tables(cross_validation(scheme="donors"))
        caption = tables["classification_sex"].attrs["caption"]
        assert "predict sex of the test cells, in percent" in caption
        assert "95% confidence interval over 3 folds of donors" in caption
        assert "Joint methods were fitted to the test cells too." in caption
        assert "Chance" not in tables["clustering"].attrs["caption"]


class TestFiles:
    @pytest.fixture
    def tables(self):
        return paper_tables(cross_validation(awkward=AWKWARD))

    def test_three_files_for_each_table(self, tables, tmp_path):
        written = write_tables(tables, tmp_path / "new")
        names = [f"{t}.{e}" for t in tables for e in ("csv", "md", "tex")]
        assert [path.name for path in written] == names
        assert {path.name for path in (tmp_path / "new").iterdir()} == set(names)

    def test_file_names_are_possible_and_different(self, tmp_path):
        tables = paper_tables(cross_validation(targets=("a/b", "a_b", "a:b", "cell type")))
        written = write_tables(tables, tmp_path)
        assert len(set(written)) == 15
        assert all(path.parent == tmp_path and path.is_file() for path in written)
        assert tmp_path / "classification_cell type.csv" in written

    def test_csv_has_every_digit(self, tables, tmp_path):
        write_tables(tables, tmp_path)
        read = pd.read_csv(tmp_path / "clustering.csv")
        assert list(read.columns[:3]) == ["kind", "embedding", "batch ASW mean"]
        assert read["embedding"][0] == AWKWARD
        np.testing.assert_allclose(read.iloc[:, 2:], tables["clustering"], rtol=1e-12)

    def test_markdown_as_a_renderer_reads_it(self, tables, tmp_path):
        write_tables(tables, tmp_path)
        text = (tmp_path / "classification_sex.md").read_text()
        rows = rendered(text)
        assert rows[0] == ["kind", "embedding", "accuracy", "balanced accuracy"]
        shown = ["PCA + RE", "Harmony", "Harmony + RE", "RE"]
        shown += ["batch label", "PCA + batch label", "RE, one epoch", "chance"]
        assert [row[1] for row in rows[1:]] == [AWKWARD, *shown]
        assert "joint & Harmony & " in (tmp_path / "classification_sex.tex").read_text()
        mean, low, high = tables["classification_sex"].iloc[0]["accuracy"]
        assert rows[1][2] == f"{mean:.2f} ({low:.2f}, {high:.2f})"
        assert text.startswith(tables["classification_sex"].attrs["caption"])

    def test_numbers_have_two_digits_silhouettes_three_and_no_limits_are_empty(self, tmp_path):
        tables = paper_tables(cross_validation(n_folds=1))
        tables["clustering"].iloc[0, [0, 3, 6]] = [-0.0004, -1.2345, np.nan]
        write_tables(tables, tmp_path)
        row = rendered((tmp_path / "clustering.md").read_text())[1]
        assert row[2:5] == ["0.000", "-1.23", ""]
        line = body((tmp_path / "clustering.tex").read_text())[0]
        assert line[2:11] == ["0.000", "", "", "$-$1.23", "", "", "", "", ""]

    def test_no_name_is_a_formula_in_a_spreadsheet(self, tables, tmp_path):
        link = '=HYPERLINK("http://x")'
        table = tables["clustering"].rename(index={AWKWARD: link})
        write_tables({"clustering": table}, tmp_path)
        read = pd.read_csv(tmp_path / "clustering.csv")
        assert f"'{link}" in set(read["embedding"])
        assert link not in (tmp_path / "clustering.csv").read_text().replace('""', '"').split(",")

    def test_latex_escapes_what_is_not_text(self, tables, tmp_path):
        write_tables(tables, tmp_path)
        text = (tmp_path / "classification_sex.tex").read_text()
        expected = (
            r"50\%\_of\textbar{}\_C:\textbackslash{}new \& \{*a*\} \#1 \textasciitilde{}\$x"
            r"\textasciicircum{}2\$ \textless{}b\textgreater{} `c` [d] \_\_init\_\_ \&amp;"
        )
        assert f"embedding & {expected} & " in text
        assert r"95\% CI" in text

    @pytest.mark.parametrize("name", ["clustering", "classification_sex"])
    def test_every_latex_line_has_all_columns(self, tables, tmp_path, name):
        write_tables(tables, tmp_path)
        lines = (tmp_path / f"{name}.tex").read_text().splitlines()
        assert lines[0].startswith("% ")
        n_columns = 2 + tables[name].shape[1]
        assert lines[1] == rf"\begin{{tabular}}{{ll{'r' * (n_columns - 2)}}}"
        rows = [line for line in lines if line.endswith(r"\\")]
        assert len(rows) == len(tables[name]) + tables[name].columns.nlevels
        for row in rows:
            cells = row.replace(r"\&", "").removesuffix(r"\\").split(" & ")
            assert sum(width(cell) for cell in cells) == n_columns
        assert rows[0].count("multicolumn") == 2
        assert sum(line == r"\midrule" for line in lines) == (3 if name != "clustering" else 2)

    def test_latex_numbers_are_under_their_heads(self, tables, tmp_path):
        write_tables(tables, tmp_path)
        text = (tmp_path / "clustering.tex").read_text()
        heads = [line for line in text.splitlines() if "multicolumn" in line]
        assert heads[0].index("{batch}") < heads[0].index("{cell type}")
        assert r"\cmidrule(lr){3-11}\cmidrule(lr){12-20}" in text
        values = [float(cell.replace("$-$", "-")) for cell in body(text)[1][2:]]
        np.testing.assert_allclose(values, tables["clustering"].iloc[1], atol=0.00501)


def rendered(text):
    """Text of the cells of a Markdown table, by a parser that is not ours."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows = []
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("th_open", "td_open"):
            # Nothing but text: emphasis, code or HTML would be lost or shown otherwise.
            assert {part.type for part in token.children} <= {"text", "text_special"}
            rows[-1].append("".join(part.content for part in token.children))
    return rows


def body(text):
    lines = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    return [line.removesuffix(r" \\").split(" & ") for line in lines]


def width(cell):
    start = r"\multicolumn{"
    return int(cell.removeprefix(start).split("}")[0]) if cell.startswith(start) else 1
