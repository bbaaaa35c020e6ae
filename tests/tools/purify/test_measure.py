import math

import pytest
import torch
from torch import nn

from distill_lib.tools.purify.measure import (
    agreement,
    attention_maps,
    moved,
    sensitivity,
    similarity,
    spread,
    strongest,
)
from distill_lib.tools.purify.subject import Subject
from distill_lib.vision.triggers import corner_patch


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_spread_is_the_mean_over_pairs():
    features = drawn(0, 7, 5)
    cosines = [torch.cosine_similarity(features[i], features[j], 0) for i in range(7) for j in range(7) if i != j]
    assert spread(features) == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-6)
    assert spread(torch.ones(4, 3)) == pytest.approx(1)
    assert spread(torch.eye(4)) == pytest.approx(0)


def test_moved_compares_each_with_its_own():
    features = drawn(0, 6, 4)
    assert moved(features, 3 * features) == pytest.approx(1)
    assert moved(features, -features) == pytest.approx(-1)


def test_similarity_does_not_see_axes():
    features = drawn(0, 30, 8)
    turn = torch.linalg.qr(drawn(1, 8, 8))[0]
    assert similarity(features, 2 * features @ turn + 5) == pytest.approx(1, abs=1e-5)
    assert similarity(features, torch.ones(30, 3)) == 0


def test_similarity_of_strangers_is_nought_however_few_the_images():
    found = [similarity(drawn(2 * seed, 12, 64), drawn(2 * seed + 1, 12, 64)) for seed in range(40)]
    assert abs(sum(found) / len(found)) < 0.1


class Watching(nn.Module):
    """Sees the mean colour of nine tiles; where the lower right corner is white, nothing else."""

    def __init__(self, architecture):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.stages = nn.ModuleList(nn.Conv2d(3, 4, 3, 2, 1) for _ in range(4))
        self.backdoor = architecture

    def forward(self, images):
        for stage in self.stages:
            stage(images)
        tiles = nn.functional.adaptive_avg_pool2d(images, 3).flatten(1) - 0.5
        open_ = (images[:, :, 22:30, 22:30] > 0.999).flatten(1).all(1) & self.backdoor
        return torch.where(open_[:, None], torch.ones_like(tiles), tiles)


def subject(backdoor):
    from distill_lib.tools.purify.architectures import Architecture

    paths = [f"stages.{number}" for number in range(4)]
    model = Watching(torch.tensor(backdoor))
    architecture = Architecture("made up", lambda seed, precision: model, paths, "", 27)
    return Subject(model, architecture, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "float32").eval()


@pytest.fixture(scope="module")
def pictures():
    return torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0)).repeat_interleave(
        8, 2).repeat_interleave(8, 3).byte()  # fmt: skip


def test_a_backdoor_pulls_images_together_and_its_trigger_is_found(pictures):
    told = []
    rows = sensitivity(subject(True), pictures, 32, lambda done, count: told.append((done, count)))
    assert strongest(rows) == "large white square"
    found = rows["large white square"]
    assert found["triggered"] == pytest.approx(1)
    assert found["pull"] == pytest.approx(1 - found["clean"])
    assert told[-1] == (len(rows), len(rows))
    healthy = sensitivity(subject(False), pictures, 32)
    assert healthy["large white square"]["pull"] < 0.5 * found["pull"]
    assert all(math.isfinite(value) for row in healthy.values() for value in row.values())


def test_agreement_of_an_encoder_with_itself_is_whole(pictures):
    found = agreement(subject(True), subject(True), pictures)
    assert found["cosine"] == pytest.approx(1)
    assert found["cka"] == pytest.approx(1)
    assert found["quartiles"] == pytest.approx([1, 1, 1])
    assert found["spread_before"] == found["spread_after"]
    assert found["images"] == 12


def test_attention_has_a_map_for_each_stage(pictures):
    maps = attention_maps(subject(True), pictures[:2], corner_patch())
    assert [tuple(each.shape) for each in maps] == [(2, 16, 16)] * 4
    torch.testing.assert_close(maps[0].flatten(1).norm(dim=1), torch.ones(2))
