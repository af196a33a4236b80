import pytest
import torch
from torch import nn

from jensen.errors import ShapeError
from jensen.nets import ConvolutionalDecoder, ConvolutionalEncoder

IMAGES = [(28, 28), (28, 20), (7, 9), (1, 28, 28), (3, 32, 32), (3, 7, 9), (2, 4, 5)]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_shapes(image: tuple[int, ...], blocks: int, batch: tuple[int, ...]) -> None:
    encoder = ConvolutionalEncoder(image, (2, 5), channels=(4, 6), blocks=blocks)
    decoder = ConvolutionalDecoder((5,), (3, *image), channels=(6, 4), blocks=blocks)
    x = torch.randn(*batch, *image)
    parameters = encoder(x)
    assert parameters.shape == (*batch, 2, 5)
    assert decoder(parameters[..., 0, :]).shape == (*batch, 3, *image)


@pytest.mark.parametrize("sides", [(28, 28), (28, 20), (7, 9), (1, 1), (5, 3), (2, 17)])
def test_decoder_makes_images_of_any_size(sides: tuple[int, int]) -> None:
    for channels in ((4,), (6, 4), (6, 5, 4)):
        decoder = ConvolutionalDecoder((5,), (2, *sides), channels=channels, activation="silu")
        out = decoder(torch.randn(20, 5))
        assert out.shape == (20, 2, *sides)
        assert (out.std(0) > 0).all()


def test_channels_without_an_axis_are_one_channel() -> None:
    networks = []
    for shape in ((7, 9), (1, 7, 9)):
        torch.manual_seed(0)
        networks.append(ConvolutionalEncoder(shape, (3,), channels=(4,)))
        networks.append(ConvolutionalDecoder((3,), (2, *shape), channels=(4,)))
    flat_encoder, flat_decoder, encoder, decoder = networks
    x, z = torch.randn(5, 7, 9), torch.randn(5, 3)
    assert torch.equal(flat_encoder(x), encoder(x[:, None]))
    assert torch.equal(flat_decoder(z), decoder(z)[:, :, 0])


def test_outputs_and_colours_are_not_mixed_up() -> None:
    """The decoder's own channels are outputs times colours, outputs first."""
    decoder = ConvolutionalDecoder((5,), (2, 3, 8, 8), channels=(4,))
    last = decoder.layers[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.arange(6.0))
    out = decoder(torch.randn(1, 5))
    for output in range(2):
        for colour in range(3):
            assert (out[0, output, colour] == 3 * output + colour).all()


def test_each_side_is_halved() -> None:
    encoder = ConvolutionalEncoder((3, 28, 20), (5,), channels=(4, 6))
    linear = encoder.layers[-1]
    assert isinstance(linear, nn.Linear)
    assert linear.in_features == 6 * 7 * 5


def test_an_output_sees_its_neighbourhood_alone() -> None:
    """Shifting an image by a stride shifts what a convolution makes of it: nothing was flattened in a wrong order."""
    encoder = ConvolutionalEncoder((16, 16), (5,), channels=(4,))
    convolution = encoder.layers[:2]
    x = torch.zeros(1, 1, 16, 16)
    x[..., 4:8, 4:8] = torch.randn(4, 4)
    shifted = convolution(x.roll((2, 4), (-2, -1)))
    torch.testing.assert_close(
        shifted[..., 2:-2, 3:-2], convolution(x).roll((1, 2), (-2, -1))[..., 2:-2, 3:-2]
    )


@pytest.mark.parametrize("shape", [(), (64,), (2, 3, 8, 8)])
def test_what_is_no_image_is_refused_with_a_hint(shape: tuple[int, ...]) -> None:
    hint = r"shape \(height, width\) or \(channels, height, width\), got .*; reshape the data or use network='mlp'"
    with pytest.raises(ShapeError, match=f"needs inputs of {hint}") as refusal:
        ConvolutionalEncoder(shape, (5,))
    assert str(shape) in str(refusal.value)
    with pytest.raises(ShapeError, match=f"needs outputs of {hint}") as refusal:
        ConvolutionalDecoder((5,), (2, *shape))
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("image", [(3, 8), (8, 3), (3, 3, 3), (1, 1)])
def test_images_too_small_to_be_halved_are_refused_with_a_hint(image: tuple[int, ...]) -> None:
    with pytest.raises(
        ShapeError, match="too small to be halved 2 times; give fewer channels or use network='mlp'"
    ):
        ConvolutionalEncoder(image, (5,), channels=(4, 6))


@pytest.mark.parametrize("blocks", [0, 2])
def test_dropout_is_applied_once_for_each_hidden_layer(blocks: int) -> None:
    encoder = ConvolutionalEncoder((8, 8), (5,), channels=(4, 6), blocks=blocks, dropout=0.25)
    decoder = ConvolutionalDecoder((5,), (1, 8, 8), channels=(6, 4), blocks=blocks, dropout=0.25)
    for network in (encoder, decoder):
        drops = [module for module in network.modules() if isinstance(module, nn.Dropout)]
        assert len(drops) == 2 * max(blocks, 1)
        assert all(drop.p == 0.25 for drop in drops)


@pytest.mark.parametrize("channels", [(4, 6), (8, 16), (5, 7)])
def test_residual_blocks_take_any_number_of_channels(channels: tuple[int, int]) -> None:
    assert ConvolutionalEncoder((8, 8), (5,), channels=channels, blocks=1)(torch.randn(2, 8, 8)).shape == (
        2,
        5,
    )
