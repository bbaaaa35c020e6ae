"""A profile's figures as a page holds them: the picture itself, its words, its files beside the page."""

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

from distill_lib.plots import files

# Kind of figure -> what is to be seen in it, for those who did not read the notebook.
CAPTIONS = {
    "trigger": "What the attacker adds: test images as they are, with the trigger, with the placebo (as large a change "
    "that no attack planted), and what the trigger changes.",
    "injection": "The three terms of BadEncoder's loss while the backdoor is planted: -1 is what the attacker wants.",
    "tsne": "The same test images as three encoders see them. Distances between groups mean little in such a map; "
    "what touches what does.",
    "acc_asr": "Accuracy against attack success, every encoder: a defender wants to be in the upper left corner.",
    "teachers": "The same distillation from every teacher, at equal views in all.",
    "students": "The same distillation into every student, at equal views in all.",
    "losses": "The same distillation with every loss, at the same number of steps.",
    "strength": "What each loss's weight was chosen from: exploration seeds and validation images.",
    "headline": "Attack success before and after the distillation, beside the published numbers: other encoders, "
    "images and schedules, so that directions compare and lengths do not.",
    "necessity": "The recipe with one ingredient taken away or exchanged, beside defences without distillation, and "
    "what each of them costs.",
    "harm": "Attack success by the length of the distillation, a line a state of the teacher: when it cleans, "
    "and when it spreads what it should clean.",
    "robustness": "The same cells where one setting differs, a panel a setting.",
    "label_triggers": "Ten triggers on one image, what each changes, and its placebo.",
    "synthetic": "What students without data looked at: patches of one picture, images of a generator.",
    "vaccine": "The score that tells triggered images from clean ones, and how well it does.",
    "asr_over_training": "Accuracy and attack success while students without data learn.",
    "bridge": "One poisoned teacher, and students along an axis that leads away from its data.",
    "abd": "Students without a defence and with ABD, in part and whole, beside the published numbers.",
    "answers": "One image, and what each teacher answers.",
    "peaks": "How much each teacher's answers say beside the class.",
    "spaces": "The same images by each teacher's features and by its answers.",
    "stolen": "Every student by its thief and teacher; only one that beats the students who asked nobody has stolen "
    "anything.",
    "temperatures": "The copying student along the thief's temperature.",
    "ablation": "The adversarial sparse teacher with one part switched at a time.",
    "trade": "What a defence costs its owner against what it costs the thief.",
    "explore": "One image with the trigger as three encoders see it: prediction, map, nearest neighbours, attention.",
    "places": "How often the trigger works at every place of the image, by encoder; it was planted at one.",
    "roc_inspect": "How well the size of the smallest trigger tells attacked encoders from clean ones.",
    "sensitivity": "What each of a bank of triggers does to an encoder's features, before and after a repair.",
    "attention": "Where an encoder looks, before and after a repair.",
    "bench": "Times of the papers' loops over ours, and what a view costs.",
}
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        name: Of its files.
        caption: What is to be seen; empty for a kind without a caption.
        alt: The figure in words, with its numbers.
        source: The picture as a data URI.
        width: Pixels.
        height: Pixels.
        files: Those beside the page: the same as vectors, and the numbers drawn.
    """

    name: str
    caption: str
    alt: str
    source: str
    width: int
    height: int
    files: tuple[str, ...]


def picture(folder: Path, name: str) -> Picture | None:
    """A figure of a folder; None where its picture or its numbers are missing or broken."""
    try:
        kind, _, alt = files.read(folder / f"{name}.json")
        data = (folder / f"{name}.png").read_bytes()
        width, height = _size(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    beside = tuple(f"{name}.{end}" for end in ("svg", "json") if (folder / f"{name}.{end}").is_file())
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return Picture(name, CAPTIONS.get(str(kind), ""), str(alt), source, width, height, beside)


def names(folder: Path) -> list[str]:
    """The figures that a folder has, by the files of their numbers."""
    return sorted(path.stem for path in folder.glob("*.json"))


def _size(png: bytes) -> tuple[int, int]:
    """Width and height from the first block of a PNG file; a ValueError where it is none."""
    if not png.startswith(_PNG) or len(png) < 24:
        raise ValueError("not a PNG file")
    return struct.unpack(">II", png[16:24])
