from dataclasses import replace

import numpy as np
import pytest
import torch

from distill_lib.datafree.cmi import batch_norm_gap
from distill_lib.datafree.divergence import kl
from distill_lib.datafree.generator import GeneratorConfig, build_generator
from distill_lib.tools.bench import reference as shared
from distill_lib.tools.bench.datafree import library, reference
from distill_lib.training.simclr import Projector
from distill_lib.vision.features import collect
from distill_lib.vision.wide_resnet import BLOCKS

CPU = torch.device("cpu")


@pytest.fixture
def networks(tiny):
    """Teacher in eval mode, student in train mode."""
    teacher, student = (reference.Classifier(each) for each in tiny.classifiers())
    return teacher.eval(), student.train()


def changed(module, run):
    """Whether `run` moves any weight of a module."""
    before = [each.detach().clone() for each in module.parameters()]
    run()
    return not all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_the_network_is_the_librarys_without_its_normalisation(tiny):
    model = tiny.classifiers()[0].eval()
    network, images = reference.Classifier(model).eval(), torch.rand(2, 3, 32, 32)
    logits, maps = collect(model, images, BLOCKS)
    found, _ = network.maps(shared.normalised(images))
    torch.testing.assert_close(network(shared.normalised(images)), logits, atol=1e-5, rtol=1e-5)
    for one, name in zip(found, BLOCKS, strict=True):
        torch.testing.assert_close(one, maps[name], atol=1e-5, rtol=1e-4)
    assert all(each.is_contiguous() and each.requires_grad for each in network.parameters())


@pytest.mark.parametrize("output", ["normalised", "unit"])
def test_the_generator_is_the_librarys(output):
    generator, noise = build_generator(GeneratorConfig(6, (8, 4), output=output), 0), torch.randn(4, 6)
    made = reference.Maker(generator)(noise)
    normalised = made if output == "normalised" else shared.normalised(made.sigmoid())
    torch.testing.assert_close(normalised, shared.normalised(generator(noise)), atol=1e-5, rtol=1e-5)


def test_images_come_back_from_files_as_they_were(tmp_path):
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    paths = reference.save(images, tmp_path)
    assert [path.read_bytes()[1:4] for path in paths] == [b"PNG"] * 3
    files = reference.Files(paths)
    back = torch.stack([files[i][0] for i in range(len(files))])
    torch.testing.assert_close(back, shared.normalised(images / 255), atol=1e-6, rtol=1e-6)


def test_the_divergence_is_the_librarys():
    taught, learned = torch.randn(2, 5, 4)
    assert reference.divergence(taught, learned, 3.0).item() == pytest.approx(kl(taught, learned, 3.0).item(), rel=1e-5)


def test_a_box_of_each_image_is_filled_from_another():
    draws, shares = np.random.default_rng(0), []
    for _ in range(200):
        plain = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 32, 32)
        mixed = reference.cutmix(plain.clone(), 1.0, draws)
        other = mixed != plain
        assert all(len(each.unique()) <= 2 for each in mixed)
        rows, columns = other.any(0).any(0).any(1), other.any(0).any(0).any(0)
        shares.append((rows.sum() * columns.sum() / 32**2).item())
    assert max(shares) > 0.7  # of Beta(1, 1), less what lies outside
    assert 0.2 < sum(shares) / 200 < 0.5


def test_a_crop_of_the_whole_is_the_image_or_its_mirror():
    images = torch.rand(16, 3, 32, 32)
    found = reference.cropped(images, (1.0, 1.0))
    kept = [torch.allclose(*pair, atol=1e-4) for pair in zip(found, images, strict=True)]
    turned = [torch.allclose(*pair, atol=1e-4) for pair in zip(found, images.flip(3), strict=True)]
    assert [one != other for one, other in zip(kept, turned, strict=True)] == [True] * 16
    assert 0 < sum(kept) < 16
    assert not torch.allclose(reference.cropped(images, (0.25, 0.3)), images, atol=1e-2)


def test_hooks_note_the_librarys_batch_norm_gaps(tiny):
    model, images = tiny.classifiers()[0].eval(), torch.rand(4, 3, 32, 32)
    network = reference.Classifier(model).eval()
    noted = [reference.Gap(each) for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    network(shared.normalised(images))
    with batch_norm_gap(model) as gaps:
        model(images)
    found = sum(each.value for each in noted)
    assert len(noted) == len(gaps) == 7
    torch.testing.assert_close(found, sum(gaps), rtol=1e-4, atol=1e-4)


def test_a_turn_of_zskt_trains_generator_and_student_alone(tiny, networks):
    config = replace(library.zskt_config(tiny), student_steps=2)
    maker = reference.Maker(build_generator(config.generator, 0))
    game = reference.ZSKT(*networks, maker, config)
    for module, moves in ((networks[0], False), (networks[1], True), (maker, True)):
        assert changed(module, lambda: game.run(1)) is moves


def test_ood_steps_see_mixed_batches_of_the_files(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    run = reference.ood_steps(lambda images: seen.append(images.shape), tiny.pictures(), 8, 0.25, workers=1)
    assert run(3) > 0
    assert seen == [(8, 3, 32, 32)] * (2 + 3)  # two to warm up
    assert list(tmp_path.iterdir()) == []


def test_a_round_of_cmi_charges_its_steps_and_its_part_of_the_files(tiny, networks, monkeypatch):
    config = library.cmi_config(tiny)  # one step of the generator, two of the student
    projector = Projector(networks[0].head.in_features, *config.projection)
    maker = reference.Maker(build_generator(config.generator, 0))
    inversion = reference.Inversion(*networks, maker, projector, config)
    assert changed(maker, lambda: inversion.run(2))
    times, asked = iter([10.0, 14.0]), []  # four seconds for the files
    monkeypatch.setattr(reference, "now", lambda device: next(times))
    monkeypatch.setattr(inversion, "run", lambda steps: asked.append(steps) or 0.5)
    monkeypatch.setattr(reference, "in_loader", lambda *args: lambda steps: asked.append(steps) or 0.25)
    run = reference.cmi_rounds(inversion, None, tiny.pictures(8), 1, published=8)
    assert run(3) == 0.5 + 2 * 0.25 + 4 / 8
    assert asked == [6, 3]
