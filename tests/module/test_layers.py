"""The classifier against torch, and its dropout."""

import pytest
import torch
from torch.nn import functional as F

from scmedal_tools.module._layers import Classifier

N_CELLS = 5


@pytest.fixture
def features():
    torch.manual_seed(0)
    return torch.randn(N_CELLS, 4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_formula(features, dropout):
    classifier = Classifier(4, (6, 5), 3, dropout).eval()
    h = features
    *hidden, last = [layer for layer in classifier if isinstance(layer, torch.nn.Linear)]
    for layer in hidden:
        h = (h @ layer.weight.T + layer.bias).clamp_min(0)
    expected = h @ last.weight.T + last.bias
    torch.testing.assert_close(classifier(features), expected)
    target = torch.tensor([0, 2, 1, 1, 0])
    nats = -F.log_softmax(expected, 1)[torch.arange(N_CELLS), target]
    torch.testing.assert_close(classifier.cross_entropy(features, target), nats)


class TestDropout:
    def test_acts_in_training_only(self, features):
        classifier = Classifier(4, (64, 32), 3, 0.5)
        assert not torch.equal(classifier(features), classifier(features))
        classifier.eval()
        assert torch.equal(classifier(features), classifier(features))

    def test_leaves_a_share_of_the_hidden_units_out(self, features):
        classifier = Classifier(4, (1000, 1000), 3, 0.3)
        seen = []
        for layer in classifier:
            if isinstance(layer, torch.nn.Dropout):
                layer.register_forward_hook(lambda _, i, o: seen.append((i[0], o)))
        classifier(features)
        assert len(seen) == 2
        for before, after in seen:
            active = before > 0
            assert (after[active] == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)

    def test_leaves_logits_and_input_whole(self, features):
        classifier = Classifier(4, (), 3, 0.9)
        assert torch.equal(classifier(features), classifier(features))

    def test_none_without_a_share(self, features):
        classifier = Classifier(4, (64, 32), 3)
        assert torch.equal(classifier(features), classifier(features))
        assert not any(isinstance(layer, torch.nn.Dropout) for layer in classifier)
