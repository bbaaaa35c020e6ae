"""The reference loops compute the library's losses: checked on one batch, in float32, before anything is timed.

The library's numbers come from the logs of its own training functions. Where a training normalises both views
together and the reference each by itself, the two views are the same picture, so that both see the same statistics;
that the loss is the same on two different views is checked with batch norm at rest.
"""

import copy
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import default_collate
from torchvision import transforms

from distill_lib.attacks.badencoder import REFERENCE_VIEWS, BadEncoderConfig, inject
from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.distillation.losses import LOSSES
from distill_lib.evaluation.probes import Head, HeadConfig, train_head
from distill_lib.tools.bench import reference
from distill_lib.tools.bench.datafree import agreement as datafree
from distill_lib.tools.bench.setup import CLASSES, Setup
from distill_lib.training.contrastive import nt_xent
from distill_lib.training.device import generator
from distill_lib.training.loop import Schedule
from distill_lib.training.simclr import Projector, SimCLRConfig, simclr, two_views
from distill_lib.vision.augment import Augmentation
from distill_lib.vision.triggers import corner_patch

TEMPERATURE, SEED = 0.5, 0
BATCH = 16
TOLERANCE = 1e-4
AS_IT_IS = Augmentation(crop_scale=None, flip=0.0, jitter_probability=0.0, greyscale=0.0)


class Disagreement(Exception):
    """A reference loop that computes another loss: its time says nothing."""


@dataclass(frozen=True)
class Agreement:
    """One loss, computed by both."""

    name: str
    ours: float
    reference: float

    @property
    def holds(self) -> bool:
        """Whether they are the same number, up to the order of float32 sums."""
        return abs(self.ours - self.reference) <= TOLERANCE * max(abs(self.ours), 1e-3)


def check(setup: Setup) -> list[Agreement]:
    """Every loss of the bench, by the library and by the reference.

    Raises:
        Disagreement: If two differ; the message names the loss and both values.
    """
    with torch.backends.cudnn.flags(allow_tf32=False):  # ten bits of mantissa would hide a difference
        found = [each for compare in COMPARISONS for each in compare(setup)]
    for each in found:
        if not each.holds:
            raise Disagreement(
                f"the reference loop does not compute the library's loss {each.name}: "
                f"{each.reference:.6g}, not {each.ours:.6g}"
            )
    return found


def _plain(images: Tensor) -> Tensor:
    """Images through PIL, `ToTensor` and `Normalize`."""
    transform = transforms.Compose(reference.to_tensor())
    pictures = [transform(Image.fromarray(each)) for each in reference.as_pixels(images)]
    return torch.stack(pictures).to(images.device)


def _simclr(setup: Setup) -> list[Agreement]:
    encoder, images = setup.fresh(precision="float32"), setup.pictures(BATCH)
    network, projector = reference.Network(encoder).train(), Projector(encoder.dimension, seed=SEED).to(setup.device)
    batch = [_plain(images), _plain(images)]
    theirs = reference.simclr_loss(network, projector, batch, TEMPERATURE)
    log = simclr(encoder, images, SimCLRConfig(Schedule(1, BATCH), TEMPERATURE, augmentation=AS_IT_IS), SEED)
    return [Agreement("simclr", log[-1]["nt_xent"], theirs.item())]


@torch.no_grad()
def _two_views(setup: Setup) -> list[Agreement]:
    encoder, images = setup.fresh(precision="float32").eval(), setup.pictures(BATCH)
    projector = Projector(encoder.dimension, seed=SEED).to(setup.device).eval()
    rows = torch.arange(BATCH, device=setup.device)
    views = two_views(images, rows, Augmentation(), generator(SEED, setup.device))
    batch = list(reference.normalised(views).chunk(2))
    theirs = reference.simclr_loss(reference.Network(encoder).eval(), projector, batch, TEMPERATURE)
    ours = nt_xent(*projector(encoder(views)).chunk(2), TEMPERATURE)
    return [Agreement("simclr, two views", ours.item(), theirs.item())]


def _badencoder(setup: Setup) -> list[Agreement]:
    """The second step: the encoder is no longer its own frozen copy, and the optimiser's step is checked too."""
    encoder, images, trigger = setup.fresh(precision="float32"), setup.pictures(BATCH), corner_patch()
    frozen, network = reference.Network(encoder).eval(), reference.Network(encoder).eval()
    schedule = Schedule(2, BATCH, "sgd", lr=0.1, weight_decay=5e-4)
    one = images[:1]
    dataset = reference.Backdoored(images, one, *reference.stamp_of(trigger))
    clean, triggered, references, _ = reference.moved(default_collate([dataset[i] for i in range(BATCH)]), setup.device)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=schedule.momentum, weight_decay=5e-4)
    draws = generator(SEED, setup.device)
    for _ in range(2):
        torch.randperm(BATCH, generator=draws, device=setup.device)  # the library's order comes first
        views = reference.normalised(REFERENCE_VIEWS(one.repeat(BATCH, 1, 1, 1), draws))
        terms = reference.badencoder_terms(frozen, network, [clean, triggered, references, [views]])
        optimiser.zero_grad()
        sum(terms).backward()
        optimiser.step()
    log = inject(encoder, images, trigger, one, BadEncoderConfig(schedule, reference_views=BATCH), SEED)
    return [Agreement(f"badencoder, L{i}", log[-1][f"L{i}"], term.item()) for i, term in enumerate(terms)]


def _distillation(setup: Setup) -> list[Agreement]:
    teacher, student = (setup.fresh(seed, "float32") for seed in (0, 1))
    images, projector = setup.pictures(BATCH), Projector(student.dimension, seed=SEED).to(setup.device)
    networks = reference.Network(teacher).eval(), reference.Network(student).train()
    batch = [_plain(images), _plain(images)]
    theirs = reference.distillation_terms(*networks, projector, batch, LOSSES["at"].weight, TEMPERATURE)
    config = DistilConfig(Schedule(1, BATCH), temperature=TEMPERATURE, augmentation=AS_IT_IS)
    log = distil(teacher, student, images, config, SEED)
    names = ("at", "nt_xent")
    return [Agreement(f"distillation, {n}", log[-1][n], t.item()) for n, t in zip(names, theirs, strict=True)]


def _head(setup: Setup) -> list[Agreement]:
    """After a step on all features without dropout."""
    features = torch.randn(BATCH, 32, generator=torch.Generator().manual_seed(SEED)).to(setup.device)
    labels, config = setup.labels()[:BATCH], HeadConfig(dropout=0.0, epochs=1, batch=BATCH)
    with torch.random.fork_rng(devices=[setup.device] if setup.device.type == "cuda" else []):
        torch.manual_seed(SEED)
        head = Head(32, CLASSES, config).to(setup.device)
    layers = copy.deepcopy(head.layers)
    step = reference.training_step(
        torch.optim.Adam(layers.parameters(), config.lr), lambda pair: cross_entropy(layers(pair[0]), pair[1])
    )
    bank = normalize(features, dim=1)
    step([bank, labels])
    trained = train_head(features, labels, CLASSES, config, SEED)
    with torch.no_grad():
        ours, theirs = cross_entropy(trained(features), labels), cross_entropy(layers(bank), labels)
    return [Agreement("head", ours.item(), theirs.item())]


def _data_free(setup: Setup) -> list[Agreement]:
    return [Agreement(*row) for row in datafree.compare(setup)]


COMPARISONS = (_simclr, _two_views, _badencoder, _distillation, _head, _data_free)
