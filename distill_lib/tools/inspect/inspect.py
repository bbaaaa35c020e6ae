"""One inspection: an encoder's smallest trigger, what its size says, and the audit where an older encoder is given."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_lib.defences.inversion import Inversion, InversionConfig, invert
from distill_lib.errors import UsageError
from distill_lib.evaluation.detection import Threshold
from distill_lib.tools.inspect.audit import (
    FEWEST_HELD,
    HELD_SHARE,
    AuditConfig,
    audit,
    old_reference,
    table_of,
    window_of,
)
from distill_lib.tools.inspect.reference import CleanScores, read_scores
from distill_lib.tools.inspect.suspect import Kind, Suspect, check_alike, check_works, load_suspect
from distill_lib.tools.purify.images import check_folder, read_folder
from distill_lib.training.device import generator, resolve_device
from distill_lib.training.loop import Watch
from distill_lib.vision.triggers import corner_patch

MOST_IMAGES = 100  # that a search sees: more cost time and change little [ours]
FEWEST_AUDITED = HELD_SHARE * FEWEST_HELD + 1  # a reference, and enough on either side
RATE = 0.05
RELATIVE_PLACE = 10 / 32  # of the square that is planted anew: BadEncoder's, at any size of image


@dataclass(frozen=True)
class Settings:
    """What an inspection is asked to do.

    Attributes:
        kind: Of all encoders.
        clean_scores: File of scores of clean encoders; None: no threshold.
        rate: Share of clean encoders that the threshold is meant to flag.
        suspect: The attacked encoder that this one was cured from; None: no audit.
        clean: An encoder known to be clean, audited beside.
        inversion: Of the search.
        audit: Of the audit.
        seed: Of everything that is drawn.
        device: `auto`, `cpu` or `cuda`.
    """

    kind: Kind = field(default_factory=Kind)
    clean_scores: Path | None = None
    rate: float = RATE
    suspect: Path | None = None
    clean: Path | None = None
    inversion: InversionConfig = field(default_factory=InversionConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        path: The encoder's file.
        sha256: Of it.
        parameters: Of the encoder.
        images: How many were used.
        found: The smallest trigger.
        threshold: None where there are no clean scores.
        audited: Rows of the audit, empty without one.
        settings: Of the search.
    """

    path: Path
    sha256: str
    parameters: int
    images: int
    found: Inversion
    threshold: Threshold | None
    audited: tuple[dict, ...]
    settings: InversionConfig

    @property
    def suspicious(self) -> bool | None:
        """None where there is no threshold."""
        return self.threshold.flags(self.found.size) if self.threshold else None

    def content(self) -> dict[str, Any]:
        """As JSON holds it; the mask and the pattern are in it."""
        found, trigger = self.found, self.found.trigger
        numbers = {name: getattr(found, name) for name in ("size", "similarity", "clean_similarity", "reached")}
        return {
            "encoder": str(self.path),
            "sha256": self.sha256,
            "parameters": self.parameters,
            "images": self.images,
            "inversion": asdict(self.settings),
            **numbers,
            "threshold": asdict(self.threshold) if self.threshold else None,
            "suspicious": self.suspicious,
            "audit": list(self.audited),
            "mask": trigger.mask.cpu().tolist(),
            "pattern": trigger.pattern.cpu().tolist(),
        }


def inspect(
    path: Path | str,
    images: Path | str,
    settings: Settings | None = None,
    watch: Callable[[str], Watch] = lambda stage: Watch(),
) -> Report:
    """Inspect an encoder with a folder of clean images; both are left as they are.

    Args:
        path: A checkpoint from anyone.
        images: Folder of 16 clean images or more, unlabelled.
        settings: See there.
        watch: Makes the watch of a stage, by its name.

    Raises:
        UsageError: For any wrong input, in one sentence.
    """
    settings = settings or Settings()
    device = resolve_device(settings.device)
    clean = read_scores(settings.clean_scores) if settings.clean_scores else None
    check_folder(Path(images))
    subject = load_suspect(path, settings.kind, device)
    others = _others(settings, subject, device)
    if clean:
        clean.check_fits(settings.inversion, subject.parameters)
    threshold = clean.threshold(settings.rate) if clean else None
    pictures = chosen(read_folder(Path(images), subject.side, settings.seed).images, settings.seed).to(device)
    if settings.suspect and len(pictures) < FEWEST_AUDITED:
        raise UsageError(f"{len(pictures)} images are too few for --suspect; allowed: {FEWEST_AUDITED} or more")
    for where, each in {path: subject, **{getattr(settings, name): one for name, one in others.items()}}.items():
        check_works(each, pictures, where)
    found = invert(subject.encoder, pictures, settings.inversion, settings.seed, lambda: watch("looking for a trigger"))
    audited = _audit(subject, others, pictures, settings, watch) if "suspect" in others else []
    about = (Path(path), subject.sha256, subject.parameters, len(pictures))
    return Report(*about, found, threshold, tuple(audited), settings.inversion)


def chosen(images: Tensor, seed: int) -> Tensor:
    """At most as many images as a search sees, (N, 3, H, W)."""
    order = torch.randperm(len(images), generator=generator(seed, "cpu"))[:MOST_IMAGES]
    return images[order.sort().values.to(images.device)]


def clean_scores_of(reports: list[Report]) -> CleanScores:
    """The scores of encoders known to be clean, for a file.

    Raises:
        UsageError: If they are not of one size and setting.
    """
    kinds = {(report.parameters, report.settings) for report in reports}
    if len(kinds) != 1:
        raise UsageError(f"clean scores of {len(kinds)} sizes or settings do not go together; allowed: one")
    scores = tuple(report.found.size for report in reports)
    return CleanScores(reports[0].settings, reports[0].parameters, reports[0].images, scores)


def _others(settings: Settings, subject: Suspect, device: torch.device) -> dict[str, Suspect]:
    if settings.clean and not settings.suspect:
        raise UsageError("--clean belongs to the audit; allowed: only together with --suspect")
    paths = {name: getattr(settings, name) for name in ("suspect", "clean") if getattr(settings, name)}
    found = {name: load_suspect(path, settings.kind, device) for name, path in paths.items()}
    for name, other in found.items():
        check_alike(subject, other, f"--{name}")
    return found


def _audit(
    subject: Suspect,
    others: dict[str, Suspect],
    images: Tensor,
    settings: Settings,
    watch: Callable[[str], Watch],
) -> list[dict]:
    """The audit, aimed where the old encoder's own trigger points."""
    old = others["suspect"].encoder
    clue = invert(old, images, settings.inversion, settings.seed, lambda: watch("looking for the old trigger"))
    row, side = old_reference(old, images, clue), images.shape[-1]
    rest = torch.cat([images[:row], images[row + 1 :]])
    encoders = {"this one": subject.encoder, "before": old}
    if "clean" in others:
        encoders["clean"] = others["clean"].encoder
    planted = corner_patch(max(1, round(side * RELATIVE_PLACE)), side)
    window = window_of(clue.trigger.mask)
    return audit(encoders, rest, window, planted, images[row : row + 1], settings.audit, settings.seed)


# ---- in words -------------------------------------------------------------------------------------------------------


def verdict(report: Report) -> str:
    """The finding in plain words: the number, the threshold, what it means."""
    found, limit = report.found, report.threshold
    size = f"{100 * found.size:.1f} % of the image"
    if found.reached:
        number = (
            f"The smallest trigger found takes {size}: with it, {report.images} images have a mean cosine of "
            f"{found.similarity:.3f} between their features, without it {found.clean_similarity:.3f}."
        )
    else:
        number = (
            f"No trigger was found that makes images alike (best mean cosine {found.similarity:.3f}, wanted "
            f"{report.settings.target:g}); the score is that of a trigger as large as the image."
        )
    parts = [number, _meaning(found.size, limit)]
    if report.audited:
        parts += ["Audit: does the backdoor come back?", table_of(report.audited), AUDIT_MEANING]
    return "\n".join(parts)


def _meaning(size: float, limit: Threshold | None) -> str:
    if limit is None:
        return (
            "There is nothing to hold it against: give scores of clean encoders of the same size and training with "
            "--clean-scores. A backdoor planted as a small patch needs a small trigger; what is small depends on the "
            "encoder."
        )
    about = f"threshold {100 * limit.value:.1f} %, from {limit.n} clean encoders, of which {limit.rate:.0%} fall below"
    if limit.flags(size):
        return (
            f"SUSPICIOUS ({about}): clean encoders like those are hardly ever fooled by so little. One that was "
            "trained on far fewer images may be, without any attack: the clean ones must have been trained alike."
        )
    return (
        f"Not suspicious ({about}): clean encoders are fooled as easily. A trigger that is no small patch, such as a "
        "faint pattern over the whole image, may go unseen."
    )


AUDIT_MEANING = (
    "A cured encoder should not be easier to turn than a clean one: read its lines against those of a clean encoder "
    "(--clean), as some pattern and enough training turn any."
)
