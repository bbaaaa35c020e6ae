import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.tools.purify.architectures import check_fit, expected, infer, prefix_of, resolve
from distill_lib.vision.encoders import Encoder, EncoderConfig


def shapes(make):
    """The shapes of a model that is never allocated."""
    with torch.device("meta"):
        return {name: tuple(each.shape) for name, each in make().state_dict().items()}


def torchvision(name, **settings):
    from torchvision import models

    return shapes(lambda: getattr(models, name)(**settings))


def transformer(**settings):
    from torchvision.models import VisionTransformer

    return shapes(lambda: VisionTransformer(32, 8, 5, 3, 48, 96, **settings))


def without(found, head):
    return {name: shape for name, shape in found.items() if not name.startswith(head)}


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_a_resnets_depth_is_in_its_shapes(depth):
    found = torchvision(f"resnet{depth}")
    architecture = resolve(None, found)
    assert architecture.name == f"resnet{depth}"
    assert (architecture.head, architecture.size) == ("fc.", None)
    assert architecture.dimension == found["fc.weight"][1]
    check_fit(architecture, without(found, "fc."))


def test_a_stem_for_small_images_must_be_named():
    found = torchvision("resnet18") | {"conv1.weight": (64, 3, 3, 3)}
    with pytest.raises(UsageError, match=r"--arch is needed.*resnet18_cifar"):
        resolve(None, found)
    check_fit(resolve("resnet18_cifar", found), without(found, "fc."))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (EncoderConfig(10, 16, 2), "study_stem2"),
        (EncoderConfig(18, 8), "study_stem1"),
        (EncoderConfig(50, 8, 4), "study_stem4"),
    ],
)
def test_an_encoder_of_the_study_is_known_but_for_its_stride(config, name):
    found = shapes(lambda: Encoder(config))
    with pytest.raises(UsageError, match="stride of a first layer is in no shape; allowed: study_stem1, study_stem2"):
        resolve(None, found)
    architecture = resolve(name, found)
    check_fit(architecture, found)
    with torch.device("meta"):
        model = architecture.make(0, "float32")
    assert (model.config, model.dimension) == (config, architecture.dimension)


def test_a_transformer_is_known_but_for_its_heads():
    found = transformer()
    with pytest.raises(UsageError, match="number of attention heads is in no shape; allowed: vit_b_16"):
        resolve(None, found)
    architecture = resolve("vit:3", found)
    check_fit(architecture, without(found, "heads."))
    assert (architecture.size, architecture.fixed, architecture.dimension) == (32, True, 48)
    assert [path[-1] for path in architecture.paths] == ["1", "2", "3", "4"]
    with pytest.raises(UsageError, match="vit:5 with 5 heads does not fit a width of 48"):
        resolve("vit:5", found)


def test_torchvisions_names_of_transformers_are_known():
    found = torchvision("vit_b_16")
    architecture = resolve("vit_b_16", found)
    assert (architecture.size, architecture.dimension) == (224, 768)
    assert expected(architecture) == without(found, "heads.")


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("nosuch", "unknown architecture 'nosuch'; allowed: resnet18"),
        ("nosuch:3", "unknown architecture 'nosuch'; allowed: vit, timm"),
        ("vit:<heads>", "names no number of attention heads"),
        ("vit:0", "names no number"),
        ("vit:", "names no number"),
        ("vit:3", "the keys are not those of vit:3"),
        ("study_stem2", "the keys are not those of study_stem2"),
    ],
)
def test_a_wrong_name_is_said(arch, words):
    with pytest.raises(UsageError, match=words):
        resolve(arch, torchvision("resnet18"))


def test_unknown_networks_are_said():
    for found in ({"x.weight": (3, 3)}, {}):
        with pytest.raises(UsageError, match="--arch is needed, as no known network has keys such as"):
            infer(found)


def test_keys_and_shapes_are_strict():
    found = without(torchvision("resnet18"), "fc.")
    architecture = resolve("resnet18", found)
    with pytest.raises(UsageError, match=r"'conv1.weight' is missing \(1 keys are missing, 0 are unknown\)"):
        check_fit(architecture, without(found, "conv1"))
    with pytest.raises(UsageError, match=r"'more' is unknown \(0 keys are missing, 1 are unknown\)"):
        check_fit(architecture, found | {"more": (1,)})
    with pytest.raises(UsageError, match=r"'bn1.weight' has the shape \(63,\); allowed: \(64,\), as in resnet18"):
        check_fit(architecture, found | {"bn1.weight": (63,)})
    check_fit(architecture, {name: shape for name, shape in found.items() if not name.endswith("batches_tracked")})


def test_a_network_of_absurd_size_is_refused_before_it_is_built():
    # Widths as a first layer of 11 MB claims them: the last stage would take 23 terabytes.
    found = shapes(lambda: Encoder(EncoderConfig(10, 16, 2))) | {"conv.weight": (100_000, 3, 3, 3)}
    with pytest.raises(UsageError, match="has the shape"):
        check_fit(resolve("study_stem2", found), found)


def test_known_prefixes_are_taken_off():
    names = ["conv1.weight", "layer1.0.conv1.weight"]
    assert prefix_of(names) == ""
    for prefix in ("module.", "backbone.", "module.encoder.", "encoder.module.backbone."):
        assert prefix_of([prefix + name for name in names]) == prefix
    assert prefix_of(["module.a", "b"]) == ""
    assert prefix_of(["other.a", "other.b"]) == ""
    assert prefix_of(list(transformer())) == ""
    assert prefix_of([]) == ""


def test_random_weights_come_from_the_seed_alone():
    architecture = resolve("vit:3", transformer())
    state = torch.get_rng_state()
    one, other, third = (architecture.make(seed, "float32").state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_timms_networks_are_known():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    for name, head in (("vit_tiny_patch16_224", "head."), ("resnet18", "fc.")):
        found = shapes(lambda name=name: timm.create_model(name, num_classes=3))
        architecture = resolve(f"timm:{name}", found)
        assert architecture.head == head
        check_fit(architecture, without(found, head))
    small = shapes(lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0))
    assert resolve("timm:vit_tiny_patch16_224", small).size == 64
    for name in ("nosuch", "hf-hub:someone/something", "../x"):
        with pytest.raises(UsageError, match="is unknown to timm"):
            resolve(f"timm:{name}", small)
    with pytest.raises(UsageError, match="no ResNet and no vision transformer"):
        resolve("timm:mobilenetv3_small_050", small)


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="'timm:resnet26' needs timm; allowed: after pip install timm"):
        resolve("timm:resnet26", {})


def test_a_made_network_has_no_head():
    assert isinstance(resolve("vit:3", transformer()).make(0, "float32").heads, nn.Identity)
