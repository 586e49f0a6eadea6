"""What the autoencoder pays for a batch that the adversary can read."""

from __future__ import annotations

import pytest
import torch

from scmedal_tools.module import FEModule
from scmedal_tools.train import get_preset


def module_of(objective):
    settings = get_preset("SCMEDAL_FE", "default").module
    settings = settings | {"adversarial_objective": objective, "adversary_weight": 3.0}
    module = FEModule.from_settings(settings, n_input=20, n_batch=4, n_hidden=(8,), n_latent=3)
    module.batch_entropy.fill_(1.2)
    return module


@pytest.mark.parametrize(("cross_entropy", "penalty"), [(0.2, 3.0), (1.2, 0.0), (1.5, 0.0)])
def test_bounded_penalty_is_the_information_beyond_chance(cross_entropy, penalty):
    found = module_of("bounded").adversarial_penalty(torch.tensor(cross_entropy))
    assert found.item() == pytest.approx(penalty, abs=1e-6)


def test_unbounded_penalty_rewards_every_mistake():
    found = module_of("unbounded").adversarial_penalty(torch.tensor(0.2))
    assert found.item() == pytest.approx(-0.6)
