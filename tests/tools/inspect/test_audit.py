from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from distill_lib.defences.inversion import AimConfig, InversionConfig, SoftTrigger, invert
from distill_lib.errors import UsageError
from distill_lib.tools.inspect import audit as inside
from distill_lib.tools.inspect.audit import (
    AuditConfig,
    Window,
    aimed,
    audit,
    halves,
    nearest_share,
    old_reference,
    relearned,
    table_of,
    window_of,
)
from distill_lib.training.loop import Schedule
from distill_lib.vision.triggers import Patch, corner_patch

SHORT = AuditConfig(AimConfig(5), (0, 2, 4), Schedule(4, 16, "sgd", 4.5e-2, weight_decay=5e-4))


class Toy(nn.Module):
    """Features are the pixels; a white corner pixel sends an image to the reference's point."""

    def __init__(self, point):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("point", point)

    def forward(self, images):
        fired = (images[:, :, -2, -2].amin(1) > 0.99).float()[:, None]
        return self.weight * (images.flatten(1) * (1 - fired) + self.point * fired)


def test_the_window_is_where_the_mask_lies():
    mask = torch.full((32, 32), 0.001)
    mask[21:31, 5:15] = 0.99
    assert window_of(mask) == Window(21, 5, 10)
    assert window_of(torch.zeros(8, 8)) == Window(0, 0, 1)
    assert window_of(torch.ones(8, 8)) == Window(0, 0, 8)
    inside = Window(21, 5, 10).mask(32, 32)
    assert (inside.sum(), inside[21:31, 5:15].min()) == (100, 1)


def test_triggered_images_next_to_the_reference_are_counted(images):
    reference, rest = images[:1], images[1:]
    backdoored = Toy((reference / 255).flatten()).eval()
    assert nearest_share(backdoored, rest, corner_patch(10), reference) == 100.0
    assert nearest_share(backdoored, rest, Patch(1, 0, 0, (0, 0, 0)), reference) == 0.0
    half = lambda each: torch.cat([corner_patch(4)(each[:10]), each[10:]])  # noqa: E731
    assert nearest_share(backdoored, rest[:20], half, reference) == 50.0


def test_halves_are_apart_and_whole(images):
    mine, held = halves(images, 3)
    assert len(mine) == len(held) == 20
    assert torch.cat([mine, held]).unique(dim=0).shape == images.unique(dim=0).shape
    with pytest.raises(UsageError, match="15 images are too few"):
        halves(images[:15], 0)


def test_relearning_leaves_the_given_encoder_as_it_is(encoder, images):
    before = deepcopy(encoder.state_dict())
    found = relearned(encoder, images[1:], corner_patch(10), images[:1], SHORT, 0)
    assert list(found) == [0, 2, 4]
    assert all(0 <= value <= 100 for value in found.values())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert found == relearned(encoder, images[1:], corner_patch(10), images[:1], SHORT, 0)


def test_the_mark_before_the_first_step_is_the_encoders_own(encoder, images):
    _, held = halves(images[1:], 0)
    own = nearest_share(encoder, held, corner_patch(10), images[:1])
    assert relearned(encoder, images[1:], corner_patch(10), images[:1], SHORT, 0)[0] == own


def test_enough_relearning_plants_the_backdoor(encoder, images):
    longer = AuditConfig(marks=(0, 60), relearn=Schedule(60, 32, "sgd", 4.5e-2))
    found = relearned(encoder, images[1:], corner_patch(14), images[:1], longer, 0)
    assert found[60] > found[0] + 20


def test_another_pattern_is_searched_on_one_half_and_measured_on_the_other(encoder, images):
    before = deepcopy(encoder.state_dict())
    trigger, share = aimed(encoder, images[1:], Window(2, 2, 20), images[:1], SHORT, 0)
    _, held = halves(images[1:], 0)
    assert share == nearest_share(encoder, held, trigger, images[:1])
    assert torch.equal(trigger.mask, Window(2, 2, 20).mask(32, 32))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_what_is_searched_and_planted_never_sees_the_measured_half(encoder, images, monkeypatch):
    mine, held = halves(images[1:], 4)
    config, seen = replace(SHORT, images=12), []
    monkeypatch.setattr(inside, "nearest_share", lambda model, measured, *_: seen.append(measured) or 0.0)
    trigger = SoftTrigger(torch.zeros(32, 32), torch.zeros(3, 32, 32))
    monkeypatch.setattr(inside, "aim", lambda model, searched, *_: seen.append(searched) or trigger)
    aimed(encoder, images[1:], Window(2, 2, 20), images[:1], config, 4)
    assert torch.equal(seen[0], mine)
    assert torch.equal(seen[1], held)

    def inject(model, shadow, trigger, reference, settings, seed, watch):
        seen.append(shadow)
        for mark in config.marks:
            watch.report(mark, 4, {})

    monkeypatch.setattr(inside, "inject", inject)
    seen.clear()
    relearned(encoder, images[1:], corner_patch(10), images[:1], config, 4)
    shadow = next(each for each in seen if len(each) == 12)
    assert torch.equal(shadow, mine[:12])
    assert all(torch.equal(each, held) for each in seen if each is not shadow)


def test_the_old_encoders_trigger_names_its_reference(images):
    old = Toy((images[7] / 255).flatten()).eval()
    found = invert(old, images, InversionConfig(steps=1, starts=0))
    found.trigger.mask.fill_(1), found.trigger.pattern.fill_(1)
    assert old_reference(old, images, found) == 7


def test_the_audit_asks_every_encoder_both_questions(encoder, images):
    encoders = {"this one": encoder, "before": deepcopy(encoder)}
    rows = audit(encoders, images[1:], Window(0, 0, 8), corner_patch(10), images[:1], SHORT)
    asked = [(row["encoder"], row["question"], row["step"]) for row in rows]
    one = [("aimed", 0), ("relearned", 0), ("relearned", 2), ("relearned", 4)]
    assert asked == [(name, *question) for name in encoders for question in one]
    assert [row["share"] for row in rows[:4]] == [row["share"] for row in rows[4:]]
    assert table_of(rows).count("\n") == 7
    assert "this one: 4 steps of relearning" in table_of(rows)


@pytest.mark.parametrize("changes", [{"marks": ()}, {"marks": (0, 51)}, {"marks": (-1,)}, {"images": 1}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(UsageError, match="are impossible; allowed: marks"):
        AuditConfig(**changes)
