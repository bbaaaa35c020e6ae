"""How each attack enters the study: its trigger, the encoder it makes, its target class and a reference input."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from distill_lib.attacks import ctrl, poisoned_data
from distill_lib.attacks.badencoder import BadEncoderConfig, choose_references, inject
from distill_lib.attacks.planting import planting
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.probes import PROBES, margins
from distill_lib.study.config.profile import Profile
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workshop import FRESH_ATTACKER, Workshop
from distill_lib.vision.encoders import Encoder
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger, corner_patch

Scores = Callable[[Tensor], Tensor]  # features (B, D) -> logits (B, classes)


@dataclass(frozen=True)
class Backdoor:
    """An attack.

    Attributes:
        trigger: profile -> what is put on test images.
        attacked: (stages, seed, downstream set) -> the encoder with the backdoor.
        target: (stages, seed, downstream set) -> the target class.
        references: (stages, seed, downstream set) -> rows of the downstream training images that triggered images are
            to look like.
        settled: Whether the target is a setting, and no result of the attack.
        check: (stages, downstream set) -> a UsageError where the images at hand cannot hold the attack.
        poison: (stages, seed) -> the poisoned pre-training set, where the attack poisons it.
    """

    trigger: Callable[[Profile], Trigger]
    attacked: Callable[[Workshop, int, str], Artefact]
    target: Callable[[Workshop, int, str], int]
    references: Callable[[Workshop, int, str], list[int]]
    settled: bool
    check: Callable[[Workshop, str], None]
    poison: Callable[[Workshop, int], poisoned_data.Poisoned] | None = None


# ---- BadEncoder: planted in the clean encoder, for one downstream set -----------------------------------------------


def _injected(stages: Workshop, seed: int, downstream: str) -> Artefact:
    settings, clean = stages.profile.injection, stages.pretrained(seed)
    shadow = stages.shadow_size()
    schedule = stages.schedule(settings.optimisation, settings.epochs * shadow, shadow, views_per_image=1)
    config = BadEncoderConfig(schedule, settings.lambda1, settings.lambda2, settings.reference_views)

    def compute(work: Workspace):
        encoder = stages.encoder(clean)
        chosen = _surest(*_attackers_head(stages, encoder, downstream, seed), target, settings.references)
        images = stages.training(downstream).images[chosen].to(stages.device)
        shadow_images = stages.pretraining.images[stages.shadow(seed).to(stages.device)]
        log = inject(encoder, shadow_images, stages.trigger(), images, config, seed, stages.watch(work))
        return stages.trained(work, encoder, log, references=chosen)

    facts, target = stages.facts(downstream), stages.target(downstream, seed)
    upstream = {"clean": clean.key, "downstream": facts.digest, "target": target}
    settled = {
        "shadow": shadow,
        "references": settings.references,
        "head": asdict(stages.head()),
        "limit": stages.profile.evaluation.train,
        "trigger": asdict(stages.trigger()),
    }
    described = {**stages.common(seed), **upstream, **settled, "badencoder": asdict(config)}
    return stages.make("attacked", described, compute)


def _set_target(stages: Workshop, seed: int, downstream: str) -> int:
    """The target class of the profile, checked against the set's classes."""
    target = choose("downstream set", downstream, stages.profile.targets)
    classes = stages.facts(downstream).classes
    if not 0 <= target < classes:
        raise UsageError(f"target class {target} of {downstream!r} does not exist; allowed: 0 to {classes - 1}")
    return target


def _check_class(stages: Workshop, downstream: str, target: int) -> None:
    """UsageError unless the target class has images to train heads on and to measure."""
    for split, images in zip(("training", "test"), stages.downstream(downstream), strict=True):
        if not (images.labels == target).any():
            present = ", ".join(map(str, images.labels.unique().tolist()))
            raise UsageError(f"target class {target} has no {split} image in {downstream!r}; allowed: {present}")


def _attackers_head(stages: Workshop, encoder: Encoder, downstream: str, seed: int) -> tuple[Scores, Tensor, Tensor]:
    """A head on an encoder; the training images' features that it was trained on, and their labels.

    It finds the picture of the target class that is surest to carry images over [ours]; the paper's attacker takes any.
    These are the labelled images that the measuring head learns from, too: ours is the stronger attacker.
    """
    train = stages.training(downstream)
    features = extract(encoder, train.images)
    labels = train.labels.to(features.device)
    return PROBES["head"](features, labels, len(train.classes), stages.head(), seed + FRESH_ATTACKER), features, labels


def _surest(head: Scores, features: Tensor, labels: Tensor, target: int, count: int) -> list[int]:
    """Rows of the training images of the target class of which a head is surest."""
    with torch.no_grad():
        scores = margins(head(features), target)
    return choose_references(scores, labels, target, count).tolist()


# ---- attacks on the pre-training images: one encoder for all downstream sets ----------------------------------------


def _on_data(poison: Callable, settings: Callable[[Profile], Any], trigger: Callable[[Profile], Trigger]) -> Backdoor:
    """An attack that poisons images, after which pre-training is as ever."""

    def poison_all(stages: Workshop, seed: int) -> poisoned_data.Poisoned:
        images = stages.pretraining
        return poison(images.images, images.labels, settings(stages.profile), seed)

    def attacked(stages: Workshop, seed: int, downstream: str) -> Artefact:
        config = settings(stages.profile)

        def change(encoder, work: Workspace):
            poisoned, whole = poison_all(stages, seed), stages.pretraining
            measure = planting(encoder, whole.images, whole.labels, config.poisoned_class, stages.trigger())
            return stages.pretrain(encoder, poisoned.images, seed, work, measure), {"poisoned": len(poisoned.rows)}

        described = {"attack": stages.profile.attack, "poison": asdict(config), **stages.pretraining_settings()}
        return stages.made("attacked", seed, described, None, change, fresh=0)

    def check(stages: Workshop, downstream: str) -> None:
        config, images = settings(stages.profile), stages.images(stages.profile.pretrain, stages.pretraining_split)
        poison(images.images, images.labels, config, 0)
        if downstream == stages.profile.pretrain:
            _check_class(stages, downstream, config.poisoned_class)

    references = lambda *where: aimed(*where).metrics["references"]  # noqa: E731
    return Backdoor(trigger, attacked, _found_target, references, settled=False, check=check, poison=poison_all)


def aimed(stages: Workshop, seed: int, downstream: str) -> Artefact:
    """Where an attack on data points, on a downstream set: target class and reference input, fixed before testing.

    On the pre-training set's own classes the target is the poisoned one; elsewhere the class that most triggered
    training images fall into, by a head on the attacked encoder.
    """
    attacked, own = stages.attacked(seed, downstream), downstream == stages.profile.pretrain
    poisoned_class = getattr(stages.profile, stages.profile.attack).poisoned_class

    def compute(work: Workspace):
        encoder, train = stages.encoder(attacked), stages.training(downstream)
        head, *seen = _attackers_head(stages, encoder, downstream, seed)
        with torch.no_grad():
            fallen = head(extract(encoder, train.images, transform=stages.trigger())).argmax(1)
        target = poisoned_class if own else poisoned_data.target_of(fallen.cpu())
        return None, {"target": target, "references": _surest(head, *seen, target, 1)}

    config = {
        "attacked": attacked.key,
        "downstream": stages.facts(downstream).digest,
        "own": own,
        "head": asdict(stages.head()),
        "limit": stages.profile.evaluation.train,
        "seed": seed,
    }
    return stages.make("aimed", config, compute)


def _found_target(stages: Workshop, seed: int, downstream: str) -> int:
    if not stages.facts(downstream).classes:
        raise UsageError(f"downstream set {downstream!r} has no classes to aim at; allowed: a labelled set")
    return aimed(stages, seed, downstream).metrics["target"]


BACKDOORS: dict[str, Backdoor] = {
    "badencoder": Backdoor(
        lambda profile: corner_patch(profile.injection.trigger_size),
        _injected,
        _set_target,
        lambda stages, seed, downstream: stages.attacked(seed, downstream).metrics["references"],
        settled=True,
        check=lambda stages, downstream: _check_class(stages, downstream, stages.target(downstream, 0)),
    ),
    "poisoned_data": _on_data(
        poisoned_data.poison, lambda profile: profile.poisoned_data, lambda profile: profile.poisoned_data.trigger()
    ),
    "ctrl": _on_data(ctrl.poison, lambda profile: profile.ctrl, lambda profile: profile.ctrl.trigger),
}
