import pytest
import torch
from torch import nn

from distill_lib.errors import UsageError
from distill_lib.tools.purify.checkpoint import Checkpoint
from distill_lib.tools.purify.subject import NORMALISATIONS, Tokens, check_output, draw_up
from distill_lib.vision.encoders import STAGES, EncoderConfig, build_encoder
from distill_lib.vision.features import collect

HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def drawn(weights, arch=None, size=None, normalisation=HALVES):
    found = Checkpoint("x.pt", "0" * 64, weights, ())
    return draw_up(found, arch, size, normalisation, torch.device("cpu"), "float32")


def images(size=32, count=4):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def in_halves(weights):
    return {name: each.half() if each.is_floating_point() else each for name, each in weights.items()}


def test_tokens_become_a_map():
    tokens = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    found = Tokens(1)(tokens)
    assert found.shape == (2, 3, 2, 2)
    assert torch.equal(found[1, :, 0, 1], tokens[1, 2])
    assert torch.equal(found[0, :, 1, 0], tokens[0, 3])


def test_an_encoder_of_the_study_is_itself(own_weights):
    subject = drawn(own_weights, "study_stem2", None, (None, None)).suspect()
    encoder = build_encoder(EncoderConfig(10, 16, 2), 0).eval()
    output, maps = collect(subject, images())
    own_output, own_maps = collect(encoder, images())
    torch.testing.assert_close(output, own_output)
    for stage in STAGES:
        torch.testing.assert_close(maps[stage], own_maps[stage])


def test_a_resnets_features_are_those_before_its_head(resnet_weights):
    from torchvision.models import resnet18

    blueprint = drawn(resnet_weights, size=64)
    subject, model = blueprint.suspect(), resnet18(num_classes=10)
    model.load_state_dict(resnet_weights)
    model.fc = nn.Identity()
    output, maps = collect(subject, images(64))
    torch.testing.assert_close(output, model.eval()((images(64) - 0.5) / 0.5))
    assert output.shape == (4, subject.dimension)
    assert [tuple(maps[stage].shape[1:]) for stage in STAGES] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert blueprint.notes == (
        "architecture resnet18, from the keys and shapes",
        "2 keys of a classification head (fc.*) are carried over unchanged",
    )


def test_a_transformers_blocks_are_its_stages():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 4, 3, 48, 96, num_classes=5)
    subject = drawn(model.state_dict(), "vit:3").suspect()
    output, maps = collect(subject, images())
    model.heads = nn.Identity()
    torch.testing.assert_close(output, model.eval()((images() - 0.5) / 0.5))
    assert all(maps[stage].shape == (4, 48, 4, 4) for stage in STAGES)


def test_the_files_names_types_and_head_come_back(resnet_weights):
    halves = {f"module.{name}": each for name, each in in_halves(resnet_weights).items()}
    blueprint = drawn(halves, size=32)
    assert blueprint.prefix == "module."
    for subject in (blueprint.suspect(), blueprint.fresh(1)):
        found = blueprint.tensors(subject)
        assert [(n, t.shape, t.dtype) for n, t in found.items()] == [(n, t.shape, t.dtype) for n, t in halves.items()]
        assert torch.equal(found["module.fc.weight"], halves["module.fc.weight"])
        assert torch.equal(found["module.fc.bias"], halves["module.fc.bias"])
    unchanged = blueprint.tensors(blueprint.suspect())
    assert all(torch.equal(unchanged[name], halves[name]) for name in halves)
    assert not torch.equal(blueprint.tensors(blueprint.fresh(1))["module.conv1.weight"], halves["module.conv1.weight"])


def test_old_files_without_counters_stay_without(resnet_weights):
    old = {name: each for name, each in resnet_weights.items() if not name.endswith("num_batches_tracked")}
    blueprint = drawn(old, size=32)
    assert list(blueprint.tensors(blueprint.suspect())) == list(old)


def test_weights_that_outgrow_the_files_type_are_refused(resnet_weights):
    halves = in_halves(resnet_weights)
    blueprint = drawn(halves, size=32)
    subject = blueprint.suspect()
    subject.model.conv1.weight.data[0] = 1e6
    with pytest.raises(UsageError, match=r"repaired 'conv1.weight' is not finite in torch.float16"):
        blueprint.tensors(subject)


def test_a_fresh_encoder_keeps_the_normalisation_of_the_file(own_weights):
    weights = own_weights | {"mean": torch.full((1, 3, 1, 1), 0.3)}
    blueprint = drawn(weights, "study_stem2", None, (None, None))
    assert torch.equal(blueprint.fresh(5).model.mean, weights["mean"])
    assert torch.equal(blueprint.tensors(blueprint.fresh(5))["mean"], weights["mean"])


@pytest.mark.parametrize(
    ("size", "normalisation", "words"),
    [
        (None, HALVES, "--size is needed, as resnet18 takes images of any size"),
        (8, HALVES, "images of 8 pixels are impossible; allowed: 16 to 1024"),
        (2000, HALVES, "images of 2000 pixels are impossible"),
        (32, (None, None), "--mean and --std are needed.* or imagenet, cifar10, none"),
        (32, (HALVES[0], None), "--mean and --std are needed"),
    ],
)
def test_what_no_weights_say_must_be_said(size, normalisation, words, resnet_weights):
    with pytest.raises(UsageError, match=words) as caught:
        drawn(resnet_weights, None, size, normalisation)
    assert str(caught.value).startswith("checkpoint 'x.pt': ")


def test_what_the_weights_say_must_not_be_contradicted(own_weights):
    with pytest.raises(UsageError, match="are part of study_stem2; allowed: neither"):
        drawn(own_weights, "study_stem2", None, HALVES)
    from torchvision.models import VisionTransformer

    with pytest.raises(UsageError, match="--size 64 does not fit these weights; allowed: 32"):
        drawn(VisionTransformer(32, 8, 4, 3, 48, 96).state_dict(), "vit:3", 64)


def test_whole_numbers_are_no_weights(resnet_weights):
    with pytest.raises(UsageError, match=r"'bn1.weight' is torch.int64; allowed: floats"):
        drawn(resnet_weights | {"bn1.weight": torch.ones(64, dtype=torch.int64)}, size=32)


def test_an_encoder_that_sees_nothing_is_refused(own_weights):
    pixels = (255 * images()).byte()
    check_output(drawn(own_weights, "study_stem2", None, (None, None)).suspect(), pixels, "x.pt")
    for broken in ({"std": torch.zeros(1, 3, 1, 1)}, {"bn.weight": torch.zeros(16)}):
        subject = drawn(own_weights | broken, "study_stem2", None, (None, None)).suspect()
        with pytest.raises(UsageError, match=r"checkpoint 'x.pt' gives no usable features"):
            check_output(subject, pixels, "x.pt")


def test_named_normalisations_are_whole():
    assert all(len(mean) == len(std) == 3 and min(std) > 0 for mean, std in NORMALISATIONS.values())
