"""What a model shows of itself in a console and in a notebook."""

from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from scmedal_tools.model._summary import SummaryMixin


class Cells(HTMLParser):
    """Text of the cells of a table, and the elements of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def hostile(cells):
    adata = cells.copy()
    names = {"donor_01": "<script>alert(1)</script>"}
    adata.obs["donor"] = adata.obs["donor"].cat.rename_categories(names)
    return adata


@pytest.mark.slow
def test_before_and_after_training(build, hostile):
    model = build("SCMEDAL_FE", hostile)
    before = Cells(model._repr_html_())
    assert before.texts[0] == "SCMEDAL_FE"
    facts = dict(zip(before.texts[1::2], before.texts[2::2], strict=True))
    assert facts["preset"] == "default"
    assert facts["data"] == "240 cells, 60 genes"
    assert facts["donor"].startswith("4 levels: <script>alert(1)</script>, donor_02")
    assert "n_hidden (16, 8)" in facts["network"]
    assert "n_latent 4" in facts["network"]
    assert "adversary_hidden (16,)" in facts["network"]
    assert facts["training"] == "not trained: call train()"
    assert before.tags == {"table", "caption", "tr", "th", "td"}
    model.train(max_epochs=7, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    expected = f"trained for 7 epochs; weights of epoch {model.best_epoch_}, counted from 0"
    assert expected in Cells(model._repr_html_()).texts


def test_one_epoch_is_no_epochs():
    trained = SimpleNamespace(is_trained=True, history={"train_loss": [1.0]}, best_epoch_=None)
    assert SummaryMixin._training(trained) == "trained for 1 epoch"


def test_text_has_the_same(build, hostile, capsys):
    model = build("SCMEDAL_FE", hostile)
    texts = Cells(model._repr_html_()).texts
    assert all(text in repr(model) for text in texts)
    assert capsys.readouterr().out == ""  # Jupyter asks for both, and shows one


@pytest.mark.slow
def test_a_saved_model_and_many_batches(fit, adata, tmp_path):
    adata.obs["plate"] = [f"plate_{i % 12:02d}" for i in range(adata.n_obs)]
    model = fit("SCMEDAL_RE", adata, {"batch_key": "plate"})
    assert "plate: 12 levels: plate_00, plate_01" in repr(model)
    assert "plate_07, ..." in repr(model)
    model.save(tmp_path / "model")
    assert repr(type(model).load(tmp_path / "model", adata)) == repr(model)
    alone = type(model).load(tmp_path / "model", adata=False)
    assert "trained for 2 epochs" in repr(alone)
