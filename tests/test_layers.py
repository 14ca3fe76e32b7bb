"""Building blocks: sizes that fit, and errors that say what was wanted."""

import pytest
import torch
from torch import nn

from helpers.layers.conv import ConvDecoder
from helpers.layers.mlp import mlp


def test_mlp_is_the_composition_that_its_sizes_name():
    torch.manual_seed(0)
    net = mlp(5, 7, 3, dropout=0.5).eval()
    x = torch.randn(2, 4, 5)
    first, last = [m for m in net if isinstance(m, nn.Linear)]
    h = x @ first.weight.T + first.bias
    expected = (h * torch.sigmoid(h)) @ last.weight.T + last.bias
    torch.testing.assert_close(net(x), expected)
    assert not torch.allclose(h @ last.weight.T + last.bias, expected, atol=1e-3)  # mutant: no activation


def test_mlp_has_no_activation_or_dropout_after_the_last_layer():
    net = mlp(3, 8, 8, 2, dropout=0.2)
    assert [type(m) for m in net] == [nn.Linear, nn.SiLU, nn.Dropout] * 2 + [nn.Linear]
    assert [type(m) for m in mlp(3, 2)] == [nn.Linear]


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (0, 3)])
def test_mlp_refuses_impossible_sizes(sizes):
    with pytest.raises(ValueError, match="sizes, all from 1|all from 1"):
        mlp(*sizes)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (8, 8), (14, 14), (28, 28), (30, 21), (33, 64)])
def test_decoder_covers_images_of_any_size(size):
    net = ConvDecoder(4, 6, size, width=2, hidden=8, dropout=0.1)
    z = torch.randn(3, 4, requires_grad=True)
    y = net(z)
    assert y.shape == (3, 6, *size)
    # Every pixel depends on z, the cut edge too: its gradient is not zero.
    for corner in (y[0, :, 0, 0], y[0, :, -1, -1]):
        (gradient,) = torch.autograd.grad(corner.sum(), z, retain_graph=True)
        assert gradient[0].abs().sum() > 0 and gradient[1:].abs().sum() == 0  # and on its own z alone


def test_decoder_starts_small_and_doubles():
    doublings = {8: 1, 14: 1, 16: 2, 28: 2, 32: 3, 64: 4, 7: 0, 1: 0}
    for side, n in doublings.items():
        net = ConvDecoder(2, 1, (side, side), width=1, hidden=2)
        assert sum(isinstance(m, nn.ConvTranspose2d) for m in net.layers) == n
