"""No text of a table is a formula to a spreadsheet; all else stays as it is."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools._data import write_csv
from scmedal_tools._data._write_csv import BEGINNINGS

LINK = '=HYPERLINK("http://x","y")'


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_formulas_are_text(tmp_path, begin):
    text = f"{begin}SUM(A1)"
    table = pd.DataFrame({text: pd.Categorical([text, "a"])}, index=[text, "b"])
    write_csv(tmp_path / "a.csv", table.rename_axis(text))
    read = pd.read_csv(tmp_path / "a.csv", dtype=str)
    text = text.replace("\r", "\n")
    assert list(read) == [f"'{text}", f"'{text}.1"]
    assert read.to_numpy().tolist() == [[f"'{text}"] * 2, ["b", "a"]]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_ends_of_lines_end_no_row(tmp_path, end):
    table = pd.DataFrame({f"a{end}b": [f"c{end}d", "e"]})
    write_csv(tmp_path / "a.csv", table, index=False)
    read = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(read, pd.DataFrame({"a\nb": ["c\nd", "e"]}), check_dtype=False)


def test_what_is_no_formula_stays(tmp_path):
    table = pd.DataFrame(
        {
            "number": [-1.5, 2.0],
            "number as text": ["-1", "+2.5e3"],
            "name": ["CD4=", "A-B"],
            "missing": [None, "x"],
            "truth": [True, False],
        }
    )
    write_csv(tmp_path / "a.csv", table, index=False)
    table.to_csv(tmp_path / "b.csv", index=False)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_the_table_of_the_caller_is_left_alone(tmp_path):
    table = pd.DataFrame({"gene": [LINK], "p": [0.1]})
    before = table.copy()
    write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(table, before)


def test_an_empty_table(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"gene": [], "p": np.array([])}), index=False)
    assert (tmp_path / "a.csv").read_text() == "gene,p\n"
