"""The images of a run: what the attacker, the defender and the judge hold of each set."""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from distill_lib.data import ImageSet, clean_share, holdout, load
from distill_lib.data.splits import FEWEST
from distill_lib.datafree.picture import patches
from distill_lib.errors import UsageError
from distill_lib.study.config.profile import Profile
from distill_lib.study.store import Store, digest
from distill_lib.vision.triggers import Trigger

VALIDATION_SHARE = 0.2
SIDE = 32  # pixels, of every image set here
PICTURE = "picture"  # the set of patches of the data-free study's one picture


@dataclass(frozen=True)
class Facts:
    """What the keys need to know of an image set: enough to name a result without the images at hand."""

    source: str
    digest: str
    count: int
    classes: int


@dataclass
class Images:
    """The image sets of one profile, loaded once each.

    Attributes:
        profile: All settings.
        store: Where artefacts, and images that were made, are.
        device: Where everything is computed; no part of any key.
        data_dir: Folder of image archives.
        known: Facts of image sets by "name/split", for naming results without the images.
        sets: Image sets loaded so far.
    """

    profile: Profile
    store: Store
    device: torch.device
    data_dir: Path | None = None
    known: dict[str, Facts] = field(default_factory=dict)
    sets: dict[tuple[str, str], ImageSet] = field(default_factory=dict, repr=False)

    def under(self, profile: Profile) -> Self:
        """The stages of other settings; images and store are shared."""
        return self if profile == self.profile else replace(self, profile=profile)

    def trigger(self) -> Trigger:
        """The attacker's trigger, for images of 32 pixels, which every set has here."""
        raise NotImplementedError  # the attack's affair

    def images(self, name: str, split: str = "train") -> ImageSet:
        """An image set, loaded once; the pre-training set is the unlabelled split where there is one."""
        where = self._called(name), split
        if where not in self.sets:
            if name == PICTURE:
                images = picture_patches(self.profile)
            else:
                images = load(name, split, data_dir=self.data_dir, cache_dir=self.store.root / "data")
            if images.images.shape[-2:] != (SIDE, SIDE):
                height, width = images.images.shape[-2:]
                raise UsageError(f"the images of {name!r} are {height} x {width} pixels; allowed: {SIDE} x {SIDE}")
            self.sets[where] = images
        return self.sets[where]

    def _called(self, name: str) -> str:
        """An image set's name among those loaded: settings decide what is on the picture."""
        if name != PICTURE or self.profile.datafree is None:
            return name
        return f"{PICTURE} {digest(asdict(self.profile.datafree.ood.patches))[:8]}"

    def facts(self, name: str, split: str = "train") -> Facts:
        """Source, hash and size of an image set."""
        where = f"{self._called(name)}/{split}"
        if where not in self.known:
            images = self.images(name, split)
            self.known[where] = Facts(images.source, images.digest, len(images), len(images.classes))
        return self.known[where]

    @property
    def pretraining_split(self) -> str:
        """STL-10 has a split without labels for this."""
        return "unlabelled" if self.profile.pretrain == "stl10" else "train"

    @cached_property
    def pretraining(self) -> ImageSet:
        """The unlabelled images that the encoder is trained on."""
        return self.images(self.profile.pretrain, self.pretraining_split).to(self.device)

    @property
    def pretraining_facts(self) -> Facts:
        """Source, hash and size of the pre-training set."""
        return self.facts(self.profile.pretrain, self.pretraining_split)

    def downstream(self, name: str, on: str = "test") -> tuple[ImageSet, ImageSet]:
        """As `parts`, each no more than the profile's measurement takes."""
        (train, held), settings = self.parts(name, on), self.profile.evaluation
        return limited(train, settings.train), limited(held, settings.test)

    def training(self, name: str) -> ImageSet:
        """The training images of a downstream set, no more than the profile's measurement takes: no test image."""
        return limited(self.images(name), self.profile.evaluation.train)

    def parts(self, name: str, on: str = "test") -> tuple[ImageSet, ImageSet]:
        """Training images, and those that rates are measured on: the test set or, to choose settings, `validation`."""
        if on == "validation":
            return holdout(self.images(name), VALIDATION_SHARE, seed=0)
        return self.images(name), self.images(name, "test")

    def shadow_size(self) -> int:
        """How many images BadEncoder's attacker holds."""
        count = self.pretraining_facts.count
        return min(self.profile.injection.shadow, count) or count

    def shadow(self, seed: int) -> Tensor:
        """Rows of the pre-training set that they are, (N,)."""
        order = torch.randperm(self.pretraining_facts.count, generator=torch.Generator().manual_seed(seed))
        return order[: self.shadow_size()]

    def share(self, seed: int) -> Tensor:
        """The defender's images, uint8 (N, 3, H, W): clean, unless the profile contaminates them.

        Raises:
            UsageError: As `check_share`.
        """
        self.check_share()
        settings, images = self.profile.defender, self.pretraining
        if settings.source:
            images = self.images(settings.source).to(self.device)
        if settings.disjoint:
            images = _without(images, self.shadow(seed))
        chosen = clean_share(images, min(1.0, self.share_size() / len(images)), seed).images
        return self._contaminated(chosen, seed) if settings.contaminated else chosen

    def _contaminated(self, images: Tensor, seed: int) -> Tensor:
        """The same with the trigger on some, drawn from all: images may come sorted by class."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        rows = order[: round(self.profile.defender.contaminated * len(images))].to(images.device)
        return images.index_copy(0, rows, self.trigger()(images[rows]))

    def share_size(self) -> int:
        """How many they are: a share of the pre-training set, wherever they come from."""
        return round(self.profile.defender.share * self.pretraining_facts.count)

    def check_share(self) -> None:
        """See from sizes alone whether the defender's images can be had.

        Raises:
            UsageError: If there are too few, none outside the attacker's shadow images, or none to contaminate.
        """
        settings, (name, there) = self.profile.defender, (self.profile.pretrain, self.pretraining_facts.count)
        if settings.source:
            name, there = settings.source, self.facts(settings.source).count
        if settings.disjoint:
            there -= self.shadow_size()
            if there <= 0:
                raise UsageError(
                    f"defender.disjoint leaves no image, as the attacker holds all {self.shadow_size()}; "
                    "allowed: with injection.shadow below that"
                )
        count = min(self.share_size(), there)
        if count < FEWEST:
            raise UsageError(
                f"defender.share {settings.share} gives the defender {count} images of {name!r}; "
                f"allowed: {FEWEST} images or more"
            )
        if settings.contaminated and not round(settings.contaminated * count):
            raise UsageError(
                f"defender.contaminated {settings.contaminated} of the defender's {count} images is not one image; "
                f"allowed: 0, or more than {0.5 / count:.2g}"
            )

    def share_settings(self) -> Any:
        """What decides the defender's images, for keys; the share alone where the rest is as usual."""
        settings = self.profile.defender
        other: dict[str, Any] = {}
        if settings.source:
            other["source"] = self.facts(settings.source).digest
        if settings.disjoint:
            other["shadow"] = self.shadow_size()
        if settings.contaminated:
            other |= {"contaminated": settings.contaminated, "trigger": asdict(self.trigger())}
        return {"share": settings.share, **other} if other else settings.share


def picture_patches(profile: Profile) -> ImageSet:
    """The image set `picture`: unlabelled patches of the data-free study's one picture.

    Raises:
        UsageError: If the profile has no data-free study.
    """
    if profile.datafree is None:
        raise UsageError("image set 'picture' is cut as the [datafree] table says; allowed: with such a table")
    images = patches(profile.datafree.ood.patches, 0)
    return ImageSet("picture", "train", images, torch.full((len(images),), -1), (), "builtin")


def _without(images: ImageSet, rows: Tensor) -> ImageSet:
    """The images that are not among the rows."""
    keep = torch.ones(len(images), dtype=torch.bool)
    keep[rows] = False
    return images.subset(keep.to(images.labels.device))


def limited(images: ImageSet, most: int) -> ImageSet:
    """At most that many images, drawn once and for all: a set may come sorted by class."""
    if not most or most >= len(images):
        return images
    return images.subset(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most].sort().values)
