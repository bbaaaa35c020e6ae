"""A study in words: what it is made of, how its encoders are made and judged, what each defence may use."""

from dataclasses import asdict
from typing import Any

import pandas

from distill_lib.study.config.profile import Profile
from distill_lib.study.config.settings import Defender, Optimisation
from distill_lib.study.stages import Stages
from distill_lib.vision.encoders import EncoderConfig


def summary(stages: Stages) -> str:
    """What a study is made of, in three lines."""
    profile = stages.profile
    return (
        f"{profile.name}: {profile.summary}\n"
        f"pre-trained on {profile.pretrain}, attacked for {', '.join(profile.downstream)}; "
        f"seeds {list(profile.seeds)}, compared on {list(profile.compared_seeds)}\n"
        f"{_encoder(profile.encoder)}; {stages.device}, {stages.precision}; "
        f"the defender holds {stages.share_size()} clean images"
    )


def setup(stages: Stages, attack: str = "") -> str:
    """How encoders are made, attacked (where an attack is named) and judged, in a line."""
    profile, training, head = stages.profile, stages.profile.pretraining, stages.profile.evaluation
    parts = [
        f"{_encoder(profile.encoder)}, {stages.precision}",
        f"{training.algorithm} {training.epochs} epochs by {_by(training.optimisation)}",
        _attack(profile, attack) if attack else "",
        f"{head.probe} {head.head_epochs} epochs of batch {head.head_batch} at {head.head_lr:g} on "
        f"{_count(head.train, 'labelled')}, tested on {_count(head.test, 'test')}",
    ]
    return ", ".join(filter(None, parts))


def budgets(defender: Defender) -> pandas.DataFrame:
    """Augmented images that each part of each defence may use."""
    parts, teacher, warmup = {}, defender.teacher_views, defender.warmup_views
    for name, spent in {"finetuned teacher, warm-up student": (teacher, warmup), "poisoned teacher": (0, warmup),
                        "random student": (teacher, 0)}.items():  # fmt: skip
        parts[name] = [*spent, defender.views - sum(spent)]
    for name in ("finetune", "clean_share"):
        parts[name] = [defender.views, 0, 0]
    return pandas.DataFrame(parts, index=["contrastive repair", "warm-up", "distillation"]).T


def _encoder(encoder: EncoderConfig) -> str:
    return f"ResNet depth {encoder.depth}, width {encoder.width}, stem stride {encoder.stem_stride}"


def _attack(profile: Profile, attack: str) -> str:
    """An attack's settings, in words."""
    if attack != "badencoder":
        return f"{attack} with {_flat(asdict(getattr(profile, attack)))}"
    injection = profile.injection
    images = _count(injection.shadow, "pre-training")
    return f"BadEncoder injected for {injection.epochs} epochs of {images} by {_by(injection.optimisation)}"


def _flat(settings: dict[str, Any]) -> str:
    return ", ".join(_flat(value) if isinstance(value, dict) else f"{key} {value}" for key, value in settings.items())


def _by(settings: Optimisation) -> str:
    """`adam 0.002 (cosine), batch 128`."""
    return f"{settings.optimiser} {settings.lr:g} ({settings.decay}), batch {settings.batch}"


def _count(most: int, what: str) -> str:
    return f"at most {most} {what} images" if most else f"all {what} images"
