"""Documentation in plain words: house idioms do not come back, nor words that add nothing.

The second list has the rules of proselint and write-good that fit. `vale` loads its program from
the network at its first run, so these rules are a test.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What not to write, and what to write instead.
IDIOMS = {
    r"\btold\b": "is given (cell-type labels, the batch label); distinguish",
    r"\btells?\b": "shows, predicts, separates",
    r"\balike\b": "similar, equal, both",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bnobody\b": "say who, or use the passive",
    r"\bnever the judge\b": "is not used to select",
    r"\b(is|are|was|were) judged\b": "is evaluated, is measured",
    r"\bhides? nothing\b": "does not hide",
    r"\bholds what\b": "keeps the content",
    r"\brests? on\b": "uses; is supported by; occurs in",
    r"\bgo(es)? together with\b": "is confounded with",
    r"\b(is|are|was|were) held against\b": "compared with",
    r"\bhas cells\b": "contains cells",
    r"\bat hand\b": "available, in the data",
    r"\brivals?\b": "baseline, other method",
    r"\bserved (the design|no choice)\b": "was (not) used for a choice",
    r"\bsays? nothing\b": "does not show, means nothing",
    r"\bwho knows\b|\bwhoever\b": "say what determines what",
    r"\bknows more\b": "contains more, predicts better",
    r"\btake `?tl\.": "use",
    r"\bis worth (its|their) face value\b|\bat face value\b": "do not report only the smallest",
    r"\b(batch|donor|state|types?|label) (is |are |be )?read\b": "predicted",
    r"\b(forest|classifier|adversary) (can(not)? read|reads? (the )?(batch|donor|rare))\b": (
        "predicts"
    ),
    r"\bas (in|of) (donor_|(a|an|another|two( other)?|each|every) (donor|batch|target)\b)": (
        "as if from donor_01; with the effects of another donor"
    ),
    r"\b(has|have|had|with|without) (a|any) finding\b": "at least one gene is falsely significant",
    r"\bhardly any genes?\b": "almost no gene is significant",
    r"\bcosts? (a few )?genes\b": "reduces power",
    r"\bdonors? (who|that) arrives?\b|\barrives? later\b": "a new donor after training",
    r"\bwould be by chance\b": "would be expected by chance",
    r"\b(table|simulation|file) (cannot )?knows?\b": "cannot show this; is known because",
    r"\bmind the\b": "say what is there",
}
WORDS = {
    r"\b(very|really|quite|extremely|basically|actually)\b": "leave it out",
    r"\b(obviously|of course|needless to say|it goes without saying)\b": "leave it out",
    r"\bit is (important|worth noting|interesting) (to note )?that\b": "leave it out",
    r"\b(please )?note that\b": "leave it out",
    r"\bin order to\b": "to",
    r"\butili[sz](e|es|ed|ing|ation)\b": "use",
    r"\bleverag(e|es|ed|ing)\b": "use",
    r"\bdue to the fact that\b|\bin view of the fact that\b": "because",
    r"\bthe fact that\b": "that",
    r"\bat this point in time\b|\bat the present time\b": "now",
    r"\ba (large|small|great) number of\b|\ba majority of\b": "many, few, most",
    r"\bin the event that\b": "if",
    r"\bin terms of\b": "by, in",
    r"\bis able to\b|\bare able to\b|\bhas the ability to\b": "can",
    r"\b(hence|thereby|therein|thereof|whilst|heretofore|aforementioned)\b": "so, by this, while",
    r"\b(state of the art|cutting edge|novel|seamless(ly)?|robustly)\b": "say what was measured",
    r"\b(?-i:(the|a|an|of|to|in|is|are|and|that|for|with) \1)\b": "the word stands there twice",
    r"\bthere (is|are) no (doubt|question)\b": "leave it out",
    r"\band/or\b": "or",
    r"\betc\b": "such as",
}
# Text that is generated, and code: both are no prose, but comments are.
TABLE = re.compile(r"<!-- table: .*?<!-- end table -->", re.DOTALL)
COMMENT = re.compile(r"(?<!\S)# (.*)$", re.MULTILINE)
FENCE = re.compile(r"^```(python|bash|r|text|\{eval-rst\}).*?^```", re.DOTALL | re.MULTILINE)
SKIPPED = {"_build", "generated", "tutorials", "jupyter_execute"}


def texts():
    """Give every page, module and notebook that users or contributors read, by its name."""
    for path in sorted(ROOT.glob("*.md")):
        yield path.name, prose(path.read_text())
    for page in ("tutorials/index.md", "benchmarks/README.md"):
        yield page, prose((ROOT / page).read_text())
    of_github = [(".github/ISSUE_TEMPLATE", "yml"), (".github/ecosystem", "yaml")]
    for folder, ending in (("docs", "md"), ("src", "py"), ("src", "html"), *of_github):
        for path in sorted((ROOT / folder).rglob(f"*.{ending}")):
            if not SKIPPED & set(path.relative_to(ROOT).parts):
                yield str(path.relative_to(ROOT)), prose(path.read_text())
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        yield str(path.relative_to(ROOT)), of_notebook(json.loads(path.read_text()))


def prose(page):
    return FENCE.sub(lambda code: "\n".join(COMMENT.findall(code[0])), TABLE.sub("", page))


def of_notebook(notebook):
    """Join sources and printed outputs of a notebook."""
    parts = []
    for cell in notebook["cells"]:
        parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            shown = [output.get("text", []), output.get("data", {}).get("text/plain", [])]
            parts += ["".join(part) for part in shown]
    return "\n".join(parts)


TEXTS = dict(texts())


def found(pattern, text):
    """Find what stands in a sentence, also where it is broken over lines or strings."""
    joined = re.sub(r'"?\s*\n\s*(#\s*|f?")?', " ", text.replace("*", ""))
    joined = " ".join(joined.split())
    return [joined[max(0, m.start() - 40) : m.end() + 40] for m in pattern.finditer(joined)]


@pytest.mark.parametrize(("phrase", "instead"), (IDIOMS | WORDS).items())
def test_phrase_is_not_used(phrase, instead):
    pattern = re.compile(phrase, re.IGNORECASE)
    where = {name: hits for name, text in TEXTS.items() if (hits := found(pattern, text))}
    assert not where, f"write instead: {instead}"


def test_a_broken_line_hides_no_idiom():
    assert found(re.compile(r"\bis told\b"), 'text = (\n    "RE is "\n    "told the donor"\n)')
    assert found(re.compile(r"\bis told\b"), "a classifier that is\n    told the types")


def test_outputs_of_notebooks_are_read():
    notebook = {"cells": [{"source": ["x"], "outputs": [{"text": ["it is told"]}]}]}
    assert "it is told" in of_notebook(notebook)
    assert {
        ".github/ISSUE_TEMPLATE/bug_report.yml",
        ".github/ecosystem/meta.yaml",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "tutorials/index.md",
    } <= set(TEXTS)


def test_comments_of_code_are_read_and_the_code_is_not():
    page = "Text\n\n```python\ntold = 1  # it is told\n# of course\n```\n"
    assert prose(page).split("\n\n")[1].split("\n")[:2] == ["it is told", "of course"]
    assert "= 1" not in prose(page)
