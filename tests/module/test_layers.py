"""The classifier against torch, and its dropout."""

import pytest
import torch
from torch.nn import functional as F

from scmedal_tools.module._layers import Classifier, Dropout

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


class TestDropoutOfTheClassifier:
    def test_acts_in_training_only(self, features):
        classifier = Classifier(4, (64, 32), 3, 0.5)
        assert not torch.equal(classifier(features), classifier(features))
        classifier.eval()
        assert torch.equal(classifier(features), classifier(features))

    def test_leaves_a_share_of_the_hidden_units_out(self, features):
        classifier = Classifier(4, (1000, 1000), 3, 0.3)
        seen = []
        for layer in classifier:
            if isinstance(layer, Dropout):
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
        assert not any(isinstance(layer, Dropout) for layer in classifier)


class TestDropout:
    @pytest.mark.parametrize("share", [0.05, 0.45, 0.5, 0.9])
    def test_share_and_mean(self, share):
        torch.manual_seed(0)
        x = torch.ones(1003, 997)  # whose number is no multiple of four
        dropped = Dropout(share)(x)
        kept = dropped > 0
        sd = (share * (1 - share) / x.numel()) ** 0.5
        assert kept.double().mean() == pytest.approx(1 - share, abs=5 * sd)
        torch.testing.assert_close(
            dropped[kept], torch.full((kept.sum(),), 1 / (1 - share)), rtol=1e-4, atol=0
        )
        # Neither genes, cells nor neighbours are left out together.
        for mean in (kept.double().mean(0), kept.double().mean(1)):
            assert mean.std() == pytest.approx((share * (1 - share) / 1000) ** 0.5, rel=0.1)
        alike = (kept[:, 1:] == kept[:, :-1]).double().mean()
        assert alike == pytest.approx(share**2 + (1 - share) ** 2, abs=5e-3)

    def test_gradient_is_that_of_what_is_kept(self):
        torch.manual_seed(0)
        x = torch.randn(20, 30, requires_grad=True)
        dropped = Dropout(0.5)(x)
        dropped.sum().backward()
        torch.testing.assert_close(x.grad, torch.where(dropped == 0, 0.0, 2.0))

    def test_seed_is_that_of_torch(self):
        x = torch.ones(20, 30)
        draws = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            draws.append(Dropout(0.5)(x))
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_keeps_the_precision(self, dtype):
        assert Dropout(0.5)(torch.ones(8, 8, dtype=dtype)).dtype == dtype

    def test_only_in_training(self):
        x = torch.randn(20, 30)
        assert torch.equal(Dropout(0.5).eval()(x), x)
        assert torch.equal(Dropout(0.0)(x), x)

    @pytest.mark.parametrize("share", [-0.1, 1.0])
    def test_share_is_a_share(self, share):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            Dropout(share)
