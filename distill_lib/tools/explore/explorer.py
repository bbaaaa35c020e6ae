"""From where the handles stand to what is shown, without a widget: one image through one encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas
import torch
from torch import Tensor

from distill_lib.errors import UsageError, choose
from distill_lib.tools.explore.attention import share_inside
from distill_lib.tools.explore.state import State
from distill_lib.tools.explore.subject import Subject
from distill_lib.vision.encoders import STAGES
from distill_lib.vision.triggers import Patch

NEIGHBOURS = 5
MOST = 60  # images that a number over many places or encoders is taken of


@dataclass(frozen=True)
class Bank:
    """The test images that all encoders are shown.

    Attributes:
        images: uint8 (N, 3, H, W), on the CPU.
        labels: int64 (N,), true classes.
        classes: Class names.
        target: The attack's target class.
        about: Attack, set and seed, for people.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    target: int
    about: str = ""

    @property
    def side(self) -> int:
        """Of an image, in pixels."""
        return self.images.shape[-1]

    def name(self, row: int) -> str:
        """The true class of an image, in words."""
        return self.classes[int(self.labels[row])]

    def others(self, most: int = MOST) -> Tensor:
        """Rows of images that are not of the target class, spread over all of them."""
        rows = (self.labels != self.target).nonzero()[:, 0]
        return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).round().long()]


@dataclass(frozen=True)
class Shown:
    """All that there is to see at one state of the handles.

    Attributes:
        state: The handles, the square inside the image.
        image: uint8 (3, H, W), what the encoder saw.
        probabilities: (classes,), of the downstream head.
        without: Class that the head gives to the same image without the square.
        kept: Cosine of the image with itself without the square: 1, nothing happened.
        neighbours: (row of the bank, cosine), the nearest first; the image itself does not count.
        position: (x, y) on the map.
        origin: (x, y) of the image without the square.
        attention: (H, W) by stage, sum 1.
        shares: Percent of the attention inside the square, by stage.
        area: Percent of the image's area that the square has: what an even attention would give.
    """

    state: State
    image: Tensor
    probabilities: Tensor
    without: int
    kept: float
    neighbours: tuple[tuple[int, float], ...]
    position: tuple[float, float]
    origin: tuple[float, float]
    attention: dict[str, Tensor]
    shares: dict[str, float]
    area: float

    @property
    def prediction(self) -> int:
        """The class that the head is surest of."""
        return int(self.probabilities.argmax())


class Explorer:
    """The encoders of one attack, and the images they are shown.

    Attributes:
        bank: The images.
        patch: The attacker's square, where the handles start.
        names: Of the encoders; the first three are the study's story: clean, attacked, defended.
    """

    def __init__(self, bank: Bank, sources: Mapping[str, Callable[[], Subject]], patch: Patch):
        self.bank, self.patch, self._sources = bank, patch, dict(sources)
        self.names = tuple(self._sources)
        self._subjects: dict[str, Subject] = {}
        self._said: dict[str, Tensor] = {}

    def start(self, encoder: str = "attacked") -> State:
        """The attacker's own trigger on the first image that is not of the target class."""
        choose("encoder", encoder, self._sources)
        patch, first = self.patch, int(self.bank.others(1)[0])
        return State(encoder, first, patch.column, patch.row, patch.size, patch.colour).fitted(self.bank.side)

    def known(self, name: str) -> bool:
        """Whether an encoder is ready, so that showing it takes one image and no more."""
        return name in self._subjects

    def subject(self, name: str) -> Subject:
        """An encoder, made ready at the first call.

        Raises:
            UsageError: If there is none of that name.
        """
        if name not in self._subjects:
            subject = choose("encoder", name, self._sources)()
            self._said[name] = subject.says(self.bank.images)
            self._subjects[name] = subject
        return self._subjects[name]

    def show(self, state: State) -> Shown:
        """What the state gives: the square is stamped, and the one image encoded.

        Raises:
            UsageError: If there is no such encoder or image.
        """
        subject, state = self.subject(state.encoder), state.fitted(self.bank.side)
        if not 0 <= state.image < len(self.bank.images):
            raise UsageError(f"image {state.image} is not there; allowed: 0 to {len(self.bank.images) - 1}")
        image = self.bank.images[state.image : state.image + 1]
        image = state.patch(image) if state.stamped else image
        seen, own = subject.see(image), subject.features[state.image]
        rows, cosines = subject.nearest(seen.features[0], NEIGHBOURS, without=state.image)
        return Shown(
            state,
            image[0],
            seen.probabilities[0],
            int(self._said[state.encoder][state.image]),
            float(own @ seen.features[0]),
            tuple(zip(rows.tolist(), cosines.tolist(), strict=True)),
            subject.place(seen.features[0]),
            tuple(subject.points[state.image].tolist()),
            {stage: found[0] for stage, found in seen.attention.items()},
            self._shares(seen.attention, state.patch),
            100 * state.size**2 / self.bank.side**2,
        )

    def _shares(self, attention: dict[str, Tensor], patch: Patch) -> dict[str, float]:
        """Mean share inside a square over the images, by stage, in percent."""
        return {stage: float(share_inside(found, patch, self.bank.side).mean()) for stage, found in attention.items()}

    # ---- many images at once, for the pictures that stand still ---------------------------------------------------

    def gaze(self, names: Sequence[str] = ()) -> pandas.DataFrame:
        """Percent of the attention inside the attacker's square, by encoder and stage; means over images.

        Args:
            names: Of encoders; (): the first three.
        """
        images = self.patch(self.bank.images[self.bank.others()])
        found = {name: self._shares(self.subject(name).see(images).attention, self.patch) for name in self._few(names)}
        return pandas.DataFrame(found).T[list(STAGES)]

    def places(self, names: Sequence[str] = (), step: int = 2) -> dict[str, Any]:
        """For each place of the square, the percent of images that the head takes for the target class.

        Args:
            names: Of encoders; (): the first three.
            step: Pixels between two places.

        Returns:
            `rows` (K,) and `columns` (L,): first pixels of the square, the attacker's among them; `shares`: by encoder
            (K, L); `n` images of other classes.
        """
        patch, last, images = self.patch, self.bank.side - self.patch.size, self.bank.images[self.bank.others()]
        rows, columns = (list(range(start % step, last + 1, step)) for start in (patch.row, patch.column))
        squares, shares = [[replace(patch, row=row, column=column) for column in columns] for row in rows], {}
        for name in self._few(names):
            says = self.subject(name).says
            hits = [[(says(images, each) == self.bank.target).float().mean() for each in line] for line in squares]
            shares[name] = (100 * torch.tensor(hits)).tolist()
        return {"rows": rows, "columns": columns, "shares": shares, "n": len(images)}

    def views(self, state: State | None = None, names: Sequence[str] = (), neighbours: int = 3) -> dict[str, dict]:
        """What a picture that stands still needs, by encoder: plain arrays and words, for `numbers_explore`."""
        state, bank = state or self.start(), self.bank
        found = {name: self.show(replace(state, encoder=name)) for name in self._few(names)}
        return {
            name: {
                "image": shown.image.numpy(),
                "prediction": bank.classes[shown.prediction],
                "kept": shown.kept,
                "points": self.subject(name).points[: len(bank.images)].tolist(),
                "position": shown.position,
                "origin": shown.origin,
                "attention": {stage: each.tolist() for stage, each in shown.attention.items()},
                "shares": shown.shares,
                "neighbours": [(bank.images[row].numpy(), bank.name(row)) for row, _ in shown.neighbours[:neighbours]],
            }
            for name, shown in found.items()
        }

    def _few(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names) or self.names[:3]
