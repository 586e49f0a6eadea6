"""Autoencoders of the fixed-effects network, against formulas written out."""

import numpy as np
import pytest
import torch

from scmedal_tools.module._autoencoders import BatchAutoencoder, BatchEffects

WIDTHS, N_LEVELS = (12, 8, 3), (4, 2)
OPTIONS = {"normalization": "layer", "latent_activation": "linear"}


@pytest.fixture
def effects():
    torch.manual_seed(0)
    effects = BatchEffects(N_LEVELS, 5).eval()
    for table in effects.parameters():
        torch.nn.init.normal_(table)
    return effects


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    autoencoder = BatchAutoencoder(WIDTHS, n_levels=N_LEVELS, **OPTIONS)
    for table in autoencoder.effects.parameters():
        torch.nn.init.normal_(table)
    return autoencoder


class TestEffects:
    def test_slopes_and_shifts_of_all_factors_add_up(self, effects):
        h = torch.randn(6, 5)
        levels = torch.tensor([[0, 0], [1, 1], [2, 0], [3, 1], [1, 0], [0, 1]])
        slopes, shifts = (
            [table.detach().numpy() for table in tables]
            for tables in (effects.slopes, effects.shifts)
        )
        for cell, (batch, other) in enumerate(levels):
            slope, shift = (
                first[batch] - first.mean(0) + second[other] - second.mean(0)
                for first, second in (slopes, shifts)
            )
            expected = h[cell].numpy() * (1 + slope) + shift
            found = effects(h, levels)[cell].detach().numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_sum_to_zero_over_the_batches(self, effects):
        levels = torch.tensor([[k, 0] for k in range(4)])
        of_batch = effects(torch.zeros(4, 5), levels) - effects(
            torch.zeros(4, 5), torch.tensor([[-1, 0]] * 4)
        )
        assert of_batch.abs().max() > 0.1
        np.testing.assert_allclose(of_batch.sum(0).detach(), np.zeros(5), atol=1e-5)

    def test_levels_without_cells_have_none(self, effects):
        effects.fit_levels([np.array([5, 0, 3, 2]), np.array([4, 6])])
        levels = torch.tensor([[k, -1] for k in range(4)])
        shifts = effects(torch.zeros(4, 5), levels)
        assert shifts[1].abs().max() == 0
        np.testing.assert_allclose(shifts.sum(0).detach(), np.zeros(5), atol=1e-5)
        shifts.square().sum().backward()
        for table in (effects.slopes[0], effects.shifts[0]):
            assert table.grad[1].abs().max() == 0
        assert effects.shifts[0].grad[0].abs().max() > 0.1

    @pytest.mark.parametrize("level", [-1, 4])
    def test_unknown_levels_are_the_average(self, effects, level):
        h = torch.randn(3, 5)
        levels = torch.tensor([[level, -1]] * 3)
        torch.testing.assert_close(effects(h, levels), effects(h, None))
        torch.testing.assert_close(effects(h, None), h)


class TestAutoencoder:
    def test_the_batch_acts_on_every_layer_of_the_decoder(self, autoencoder):
        z, levels = torch.randn(7, 3), torch.tensor([[2, 1]] * 7)
        before = autoencoder.decode(z, levels)
        for effects in autoencoder.effects:
            with torch.no_grad():
                effects.slopes[0][2] += 1.0
            after = autoencoder.decode(z, levels)
            assert (after - before).abs().min(0).values.max() > 1e-3
            before = after

    def test_the_batch_is_no_input_of_the_encoder(self, autoencoder):
        x = torch.randn(7, 12)
        latent = autoencoder.encode(x)[-1]
        for effects in autoencoder.effects.parameters():
            torch.nn.init.normal_(effects)
        torch.testing.assert_close(autoencoder.encode(x)[-1], latent)

    def test_genes_are_left_out_in_training_only(self):
        torch.manual_seed(0)
        autoencoder = BatchAutoencoder(WIDTHS, n_levels=[4], input_dropout=0.5, **OPTIONS)
        x = torch.randn(7, 12)
        assert (autoencoder.encode(x)[-1] - autoencoder.encode(x)[-1]).abs().max() > 1e-3
        autoencoder.eval()
        torch.testing.assert_close(autoencoder.encode(x)[-1], autoencoder.encode(x)[-1])

    def test_mirrors_the_widths(self, autoencoder):
        assert [layer.out_features for layer in autoencoder.layers] == [8, 3]
        assert [layer.out_features for layer in autoencoder.decoder] == [8, 12]


@pytest.mark.parametrize("training", [True, False])
def test_levels_that_there_are_not_are_as_the_average(effects, training):
    h, levels = torch.randn(2, 5), torch.tensor([[-1, -1], [4, 2]])
    torch.testing.assert_close(effects.train(training)(h, levels), h)


def test_levels_have_two_axes(effects):
    with pytest.raises(ValueError, match=r"shape \(3, 6, 2\) do not fit"):
        effects(torch.randn(6, 5), torch.zeros(3, 6, 2, dtype=torch.long))
