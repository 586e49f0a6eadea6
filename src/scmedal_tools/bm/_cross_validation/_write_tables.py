"""CSV, Markdown and LaTeX files of the tables of a cross-validation."""

from __future__ import annotations

import re
from functools import partial
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np

from scmedal_tools._data import without_formulas, write_whole
from scmedal_tools.ext import display_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

# The paper's two, but silhouettes near 0 differ in the third.
DIGITS: Final = {"ASW": 3}
IN_LATEX: Final = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
# Underscores within a word mean nothing in Markdown, and are more easily read as they are.
OF_MARKDOWN: Final = re.compile(r"[\\`*|<\[\]~&]|(?<![^\W_])_|_(?![^\W_])")


def write_tables(tables: Mapping[str, pd.DataFrame], folder: str | Path) -> list[Path]:
    r"""Write tables as Markdown, LaTeX and CSV.

    Parameters
    ----------
    tables
        Tables by name, as from :func:`paper_tables`.
    folder
        Where to write; made if it does not exist. Files of the same names are replaced.

    Returns
    -------
    list of pathlib.Path
        For each table ``<name>.csv`` (all digits, one line of column names), ``<name>.md`` and
        ``<name>.tex`` (two digits, three for the ASW; ``pca`` is written PCA). The last needs
        ``\usepackage{booktabs}`` and has no table environment around it; its caption is the
        comment in the first line.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> written = smt.bm.write_tables(smt.bm.paper_tables(result), "tables")
    >>> [path.name for path in written][:3]
    ['clustering.csv', 'clustering.md', 'clustering.tex']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        texts = {"csv": _csv(table), "md": markdown(table), "tex": latex(table)}
        for ending, text in texts.items():
            written.append(folder / f"{file_stem(name)}.{ending}")
            write_whole(written[-1], partial(Path.write_text, data=text, encoding="utf-8"))
    return written


def file_stem(name: str) -> str:
    """Name of a file, different for different names, whatever a column is called."""
    return quote(name, safe=" ,()+")


def _csv(table: pd.DataFrame) -> str:
    flat = table.set_axis([" ".join(column) for column in table.columns], axis=1)
    return without_formulas(flat.reset_index()).to_csv(index=False, lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """Markdown with the limits in brackets, below the caption."""
    groups = _groups(table)
    rows = [_row([_in_markdown(cell) for cell in line]) for line in text_rows(table)]
    rule = _row(["---"] * table.index.nlevels + ["---:"] * len(groups))
    return "\n".join([_in_markdown(table.attrs["caption"]), "", rows[0], rule, *rows[1:], ""])


def text_rows(table: pd.DataFrame) -> list[list[str]]:
    """Header and rows as text, with the limits in brackets."""
    groups = _groups(table)
    lines = [[*table.index.names, *(" ".join(group) for group in groups)]]
    for names, row in table.iterrows():
        limits = (_with_limits(*numbers) for numbers in _numbers(row, groups))
        lines.append([*map(display_names, names), *limits])
    return lines


def latex(table: pd.DataFrame) -> str:
    """LaTeX tabular of booktabs, with the mean and the limits in columns of their own."""
    # Not by pandas' Styler (3.1), which has no rules below grouped heads, gives the names of the
    # index a line of their own, draws lines between all groups of rows or none, and does not
    # escape "<", ">" and "|".
    n_names, groups = table.index.nlevels, _groups(table)
    lines = [
        f"% {' '.join(table.attrs['caption'].split())}",
        rf"\begin{{tabular}}{{{'l' * n_names}{'rrr' * len(groups)}}}",
        r"\toprule",
        *_latex_header(table),
    ]
    kind_before = None
    for names, row in table.iterrows():
        # A line above the controls, and above chance; not between joint and other embeddings.
        section = names[0] if names[0] in ("control", "chance") else ""
        if section != kind_before:
            lines.append(r"\midrule")
        kind_before = section
        numbers = [text.replace("-", "$-$") for texts in _numbers(row, groups) for text in texts]
        lines.append(_latex_row([*(in_latex(display_names(name)) for name in names), *numbers]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def in_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return " ".join(str(text).translate(IN_LATEX).split())


def _in_markdown(text: str) -> str:
    return OF_MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


def _latex_header(table: pd.DataFrame) -> list[str]:
    columns, n_names = list(table.columns), table.index.nlevels
    lines = []
    for level in range(1, table.columns.nlevels):
        spans = [
            (key[-1], len([*group]))
            for key, group in groupby(columns, key=lambda column: column[:level])
        ]
        titles = [rf"\multicolumn{{{n}}}{{c}}{{{in_latex(name)}}}" for name, n in spans]
        bounds = pairwise(accumulate((n for _, n in spans), initial=n_names))
        rules = [rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in bounds]
        lines += [_latex_row([""] * n_names + titles), "".join(rules)]
    titles = ["mean", r"\multicolumn{2}{c}{95\% CI}"] * len(_groups(table))
    return [*lines, _latex_row([*map(in_latex, table.index.names), *titles])]


def _groups(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Columns that have a mean and limits, without these."""
    return list(dict.fromkeys(column[:-1] for column in table.columns))


def _numbers(row: pd.Series, groups: list[tuple[str, ...]]) -> Iterator[list[str]]:
    """Mean and limits of each group, as text."""
    for group, values in zip(groups, row.to_numpy().reshape(-1, 3), strict=True):
        digits = DIGITS.get(group[-1], 2)
        # Adding 0 takes the sign from a zero.
        yield ["" if np.isnan(v) else f"{round(v, digits) + 0.0:.{digits}f}" for v in values]


def _with_limits(mean: str, lower: str, upper: str) -> str:
    return f"{mean} ({lower}, {upper})" if lower else mean


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"
