"""What an encoder does on held-out images, and under a bank of triggers."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill_lib.distillation.losses.at import attention
from distill_lib.tools.purify.bank import bank
from distill_lib.tools.purify.subject import Subject
from distill_lib.vision.encoders import STAGES
from distill_lib.vision.features import collect, extract, to_unit
from distill_lib.vision.triggers import Trigger

BATCH = 64
TRIED = 64  # images under each trigger: pairs are what counts, and these are 2,016


def spread(features: Tensor) -> float:
    """Mean cosine of the features (N, D) of different images, N >= 2: 1 where an encoder sees them all alike."""
    unit = normalize(features.double(), dim=1)
    count, total = len(unit), unit.sum(0)
    return float((total @ total - unit.square().sum()) / (count * (count - 1)))


def moved(features: Tensor, others: Tensor) -> float:
    """Mean cosine of each image's features (N, D) with its own in `others`."""
    return float((normalize(features.double(), dim=1) * normalize(others.double(), dim=1)).sum(1).mean())


def similarity(features: Tensor, others: Tensor) -> float:
    """Linear CKA of two representations (N, D1) and (N, D2) of the same N >= 4 images (Kornblith et al., ICML 2019).

    1 where one is the other turned and scaled, however the axes lie: a student that started afresh has axes of its own.
    With the unbiased estimate of HSIC (Song et al., JMLR 2012, equation 5): about 0 for representations that have
    nothing in common, however few the images; the usual one is nearer to 1 the fewer they are.
    """
    first, second = (_gram(each) for each in (features, others))
    shared, alone = _hsic(first, second), _hsic(first, first) * _hsic(second, second)
    return shared / math.sqrt(alone) if alone > 0 else 0.0


def _gram(features: Tensor) -> Tensor:
    """Products of all pairs, float64 (N, N), without those of an image with itself."""
    centred = features.double() - features.double().mean(0)
    return (centred @ centred.T).fill_diagonal_(0)


def _hsic(first: Tensor, second: Tensor) -> float:
    count = len(first)
    sums = float(first.sum() * second.sum()) / ((count - 1) * (count - 2))
    rows = 2 * float(first.sum(0) @ second.sum(0)) / (count - 2)
    return (float((first * second).sum()) + sums - rows) / (count * (count - 3))


def sensitivity(
    subject: Subject, images: Tensor, size: int, report: Callable[[int, int], None] = lambda done, triggers: None
) -> dict[str, dict[str, float]]:
    """How far each trigger of the bank pulls different images to one point.

    Args:
        subject: An encoder.
        images: Clean, uint8 (N, 3, S, S); the first 64 are used.
        size: S.
        report: Told how many triggers of all are done.

    Returns:
        By trigger: `clean`, the mean cosine of the features of different images without it; `triggered`, with it;
        `pull`, the second less the first, above 0 where the trigger makes images alike; `kept`, the mean cosine of an
        image's own features without and with it.
    """
    images, triggers, result = images[:TRIED], bank(size), {}
    clean = extract(subject, images, BATCH)
    base = spread(clean)
    for number, (name, trigger) in enumerate(triggers.items(), 1):
        found = extract(subject, images, BATCH, transform=trigger)
        alike = spread(found)
        result[name] = {"clean": base, "triggered": alike, "pull": alike - base, "kept": moved(clean, found)}
        report(number, len(triggers))
    return result


def strongest(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The trigger with the largest pull."""
    return max(rows, key=lambda name: rows[name]["pull"])


def agreement(before: Subject, after: Subject, images: Tensor) -> dict[str, Any]:
    """Whether two encoders see held-out images (N, 3, S, S), uint8, alike.

    Returns:
        `cosine`, the mean cosine of an image's features, with its `quartiles`; `cka`, where axes do not count;
        `spread_before` and `spread_after`, the mean cosine of different images; `images`, how many.
    """
    first, second = (extract(each, images, BATCH) for each in (before, after))
    cosines = (normalize(first.double(), dim=1) * normalize(second.double(), dim=1)).sum(1)
    quartiles = cosines.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=cosines.device))
    return {
        "images": len(images),
        "cosine": float(cosines.mean()),
        "quartiles": quartiles.tolist(),
        "cka": similarity(first, second),
        "spread_before": spread(first),
        "spread_after": spread(second),
    }


@torch.no_grad()
def attention_maps(subject: Subject, images: Tensor, trigger: Trigger | None = None) -> list[Tensor]:
    """Where each stage looks on images (N, 3, S, S), uint8: maps (N, h, w), float32 on the CPU, one a stage."""
    shown = images if trigger is None else trigger(images)
    maps = collect(subject.eval(), to_unit(shown))[1]
    return [attention(maps[stage].float()).view(len(images), *maps[stage].shape[2:]).cpu() for stage in STAGES]
