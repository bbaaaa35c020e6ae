"""One encoder, with all that is known of it before a handle moves."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill_lib.evaluation.probes import PROBES, Head
from distill_lib.plots.tsne import embed
from distill_lib.study.cells import Cell
from distill_lib.study.session import Study
from distill_lib.study.store import Artefact, Workspace
from distill_lib.tools.explore.attention import attention_maps
from distill_lib.vision.encoders import STAGES, Encoder
from distill_lib.vision.features import collect, extract, to_unit

VERSION = 1  # of `explored`
NEAR = 5  # landmarks that place a new point on the map
PARTS = ("clean", "triggered")  # of the landmarks, in this order


@dataclass(frozen=True)
class Seen:
    """What an encoder and its head make of images.

    Attributes:
        features: (B, D), of length 1, on the CPU.
        probabilities: (B, classes).
        attention: (B, H, W) by stage, each image's sum 1.
    """

    features: Tensor
    probabilities: Tensor
    attention: dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """One encoder and its downstream head.

    Attributes:
        encoder: In eval mode.
        head: Features (B, D) -> scores (B, classes); in eval mode.
        features: (N, D), of length 1, of the bank's images as they are.
        landmarks: (M, D), of length 1, of all points of the map, the bank's first.
        points: (M, 2), where they lie on the map.
    """

    encoder: Encoder
    head: torch.nn.Module
    features: Tensor
    landmarks: Tensor
    points: Tensor

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """One forward pass of images (B, 3, H, W), uint8."""
        device = next(self.encoder.parameters()).device
        output, maps = collect(self.encoder, to_unit(images.to(device)), STAGES)
        probabilities = self.head(output.float()).softmax(1).cpu()
        looks = {stage: attention_maps(found).cpu() for stage, found in maps.items()}
        return Seen(normalize(output.float(), dim=1).cpu(), probabilities, looks)

    @torch.no_grad()
    def says(self, images: Tensor, transform=None) -> Tensor:
        """Predicted classes (B,) of images (B, 3, H, W), uint8, perhaps through a trigger; in batches."""
        return self.head(extract(self.encoder, images, transform=transform)).argmax(1).cpu()

    def nearest(self, features: Tensor, count: int, without: int | None = None) -> tuple[Tensor, Tensor]:
        """The bank's images most alike by cosine: their rows and cosines, each (count,), the nearest first.

        Args:
            features: (D,), of length 1.
            count: At most so many.
            without: A row that does not count: the image's own.
        """
        cosines = self.features @ features
        if without is not None:
            cosines[without] = -torch.inf
        values, rows = cosines.topk(min(count, len(cosines) - (without is not None)))
        return rows, values

    def place(self, features: Tensor) -> tuple[float, float]:
        """Where a new point lies on the map: the mean of its nearest landmarks, each by 1 / its squared distance.

        A landmark itself so comes to lie where it is. t-SNE has no place for new points; this one is an answer to
        "among whom", and not to "how far".
        """
        cosines, rows = (self.landmarks @ features).topk(min(NEAR, len(self.landmarks)))
        weights = 1 / (2 - 2 * cosines.double()).clamp_min(1e-9)
        x, y = (weights @ self.points[rows].double() / weights.sum()).tolist()
        return x, y


def explored(study: Study, cell: Cell, rows: dict[str, Any]) -> Artefact:
    """A cell's head, features and map, found in the store or made from the stored encoder.

    The head is trained as the one that measures the cell is: the same images, settings and seed.

    Args:
        study: Whose store has the encoder.
        cell: Which.
        rows: Of `choose_rows`: the sampled test images that the map is made of.
    """
    stages = study.under(cell.attack)
    subject = stages.encoder_of(cell)

    def compute(work: Workspace):
        work.report(0, 0, {}, f"exploring {cell.label()}")
        train, encoder = stages.training(cell.downstream).to(stages.device), stages.encoder(subject)
        features = extract(encoder, train.images)
        head = PROBES["head"](features, train.labels, len(train.classes), stages.head(), cell.seed)
        view = study.view(cell, rows)
        points = embed(*(view[part] for part in PARTS), view["reference"][:0])  # no test image: it stays away
        tensors = {f"head.{name}": values for name, values in head.state_dict().items()}
        tensors |= {part: torch.from_numpy(view[part]) for part in PARTS}
        return tensors | {"points": torch.cat([torch.from_numpy(points[part]) for part in PARTS]).float()}, {}

    config = {
        "encoder": subject.key,
        "images": [stages.facts(cell.downstream, split).digest for split in ("train", "test")],
        "limit": stages.profile.evaluation.train,
        "target": cell.target,
        "trigger": asdict(stages.trigger()),
        "head": asdict(stages.head()),
        "seed": cell.seed,
        "rows": {part: [int(row) for row in found] for part, found in rows.items()},
    }
    return stages.store.make("explored", VERSION, config, compute)


def load_subject(study: Study, cell: Cell, rows: dict[str, Any]) -> Subject:
    """A cell's encoder, ready to be looked at; what is missing beside the encoder is made."""
    stages = study.under(cell.attack)
    tensors, encoder = explored(study, cell, rows).weights(), study.encoder(cell)
    head = Head(encoder.dimension, len(study.classes(cell.downstream)), stages.head())
    head.load_state_dict({name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")})
    landmarks = normalize(torch.cat([tensors[part] for part in PARTS]).float(), dim=1)
    head = head.to(stages.device).eval()
    return Subject(encoder, head, landmarks[: len(tensors["clean"])], landmarks, tensors["points"])
