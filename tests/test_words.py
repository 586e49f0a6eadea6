"""House idioms that readers stumbled over do not come back: the field has words for them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What not to write, and what to write instead.
IDIOMS = {
    r"\b(is|are|was|were|being) told\b": "is given (cell-type labels, the batch label)",
    r"\btold the (\w+ )?(types|donor|batch)\b": "given the labels",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bnobody\b": "say who, or use the passive",
    r"\bnever the judge\b": "is not used to select",
    r"\bhides? nothing\b": "does not hide",
    r"\bwhat \w+ tells? (is|are)\b": "the results of RE are",
    r"\bwho (is|are) alike\b": "which are similar",
    r"\bholds what\b": "keeps the content",
    r"\brests? on \d": "occurs in 3 of 7 donors",
    r"\btells? the batch\b": "predicts the batch",
    r"\b(tell|tells|told) apart\b|\btells? \w+ \w+ apart\b": "distinguish, separate",
    r"\bgo(es)? together with\b": "is confounded with",
    r"\b(is|are|was|were) held against\b": "compared with",
    r"\bhas cells\b": "contains cells",
    r"\bat hand\b": "available, in the data",
}
# Text that is generated, or quotes what was once written.
TABLE = re.compile(r"<!-- table: .*?<!-- end table -->", re.DOTALL)


def texts():
    """Give every page, module and notebook that users read, by its name."""
    yield "README.md", (ROOT / "README.md").read_text()
    for folder, ending in (("docs", "md"), ("src", "py"), ("src", "html")):
        for path in sorted((ROOT / folder).rglob(f"*.{ending}")):
            if not {"_build", "generated", "tutorials"} & set(path.parts):
                yield str(path.relative_to(ROOT)), TABLE.sub("", path.read_text())
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        yield str(path.relative_to(ROOT)), "\n".join(sources)


TEXTS = dict(texts())


def found(pattern, text):
    """Find what stands in a sentence, also where it is broken over lines or strings."""
    joined = re.sub(r'"?\s*\n\s*(#\s*|f?")?', " ", text.replace("*", ""))
    joined = " ".join(joined.split())
    return [joined[max(0, m.start() - 40) : m.end() + 40] for m in pattern.finditer(joined)]


@pytest.mark.parametrize("idiom", IDIOMS)
def test_idiom_is_not_used(idiom):
    pattern = re.compile(idiom, re.IGNORECASE)
    where = {name: hits for name, text in TEXTS.items() if (hits := found(pattern, text))}
    assert not where, f"write instead: {IDIOMS[idiom]}"


def test_a_broken_line_hides_no_idiom():
    assert found(re.compile(r"\bis told\b"), 'text = (\n    "RE is "\n    "told the donor"\n)')
    assert found(re.compile(r"\bis told\b"), "a classifier that is\n    told the types")
