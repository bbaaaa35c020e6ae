"""The stages of the data-free study: poisoned teachers, students, their rates; each found in the store or computed."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pandas
import torch
from torch import Tensor

from distill_lib.attacks.label_triggers import LabelTrigger
from distill_lib.attacks.poisoned_labels import (
    PERTURBED,
    PoisonedLabelsConfig,
    PoisonedSet,
    poison,
    poisoned_rows,
    surrogate_gradient,
)
from distill_lib.data import ImageSet, clean_share
from distill_lib.datafree import METHODS, defended
from distill_lib.datafree.generator import sample
from distill_lib.errors import UsageError, choose
from distill_lib.evaluation.rates import rates
from distill_lib.study.datafree.cells import TEACHER, Subject
from distill_lib.study.datafree.settings import DataFree
from distill_lib.study.sibling import SiblingStages, keep_log
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace, write_json
from distill_lib.study.workshop import FRESH_STUDENT
from distill_lib.training.loop import Watch
from distill_lib.training.supervised import train_classifier
from distill_lib.vision.features import to_unit
from distill_lib.vision.wide_resnet import WIDE_RESNETS, WideResNet, WideResNetConfig, build_wide_resnet

# Raised when a change of the code changes what a stage makes.
VERSIONS = {"classifier": 1, "datafree": 2, "rated": 1}
SHOWN = 200  # test images that a student's curve is measured on
PICTURES, MOMENTS = 8, (0.0, 0.1, 0.3, 1.0)  # images shown of a generator, and when: shares of the training
CHUNK = 500  # images classified at a time


def _pool_tail(pool: Any) -> Tensor:
    """The newest images of a CMI pool."""
    filled = int(pool.images.flatten(1).any(1).sum())
    return pool.images[max(0, filled - PICTURES) : filled].float() / 255


# Methods that make images -> what `show` is handed -> some of them, (N, 3, H, W) in [0, 1].
MAKERS: dict[str, Callable[[Any], Tensor]] = {"zskt": lambda maker: sample(maker, PICTURES, 0), "cmi": _pool_tail}


class DataFreeStages(SiblingStages):
    """Everything that the data-free study makes."""

    versions = VERSIONS
    settings: DataFree

    # ---- images ------------------------------------------------------------------------------------------------

    def poison_settings(self, attack: str) -> PoisonedLabelsConfig:
        """How an attack poisons."""
        return PoisonedLabelsConfig(attack, self.settings.target, self.settings.rate)

    def check(self) -> None:
        """See at once whether the images at hand can hold the study.

        Raises:
            UsageError: If a set is missing, the target class has no image, or there are too few images to poison.
        """
        self.stages.facts(self.settings.others)
        seed = self.settings.seeds[0]
        training = self.images(seed)
        for split, images in (("training", training), ("test", self.test_images(seed))):
            if not (images.labels == self.settings.target).any():
                present = ", ".join(map(str, images.labels.unique().tolist()))
                raise UsageError(
                    f"datafree.target {self.settings.target} has no {split} image in {self.settings.dataset!r}; "
                    f"allowed: {present}"
                )
        for attack in self.settings.triggers:
            poisoned_rows(training.labels, self.poison_settings(attack), 0)
        clean_share(training, self.settings.clean, 0)

    # ---- networks ----------------------------------------------------------------------------------------------

    def size(self, which: str) -> WideResNetConfig:
        """Of `teacher` or `student`, with as many outputs as there are classes."""
        return replace(WIDE_RESNETS[getattr(self.settings, which)], classes=self.facts().classes)

    def fresh(self, which: str, seed: int) -> WideResNet:
        """A network with random weights."""
        return build_wide_resnet(self.size(which), seed, self.stages.precision).to(self.stages.device)

    def network(self, artefact: Artefact, which: str) -> WideResNet:
        """The network that an artefact holds, in eval mode."""
        model = self.fresh(which, 0)
        model.load_state_dict(artefact.weights())
        return model.eval()

    def classifier(self, attack: str, seed: int) -> Artefact:
        """A teacher: poisoned, or (`attack` empty) clean, as the surrogate of attacks that perturb images."""
        surrogate = self.classifier("", seed) if attack in PERTURBED else None

        def compute(work: Workspace):
            model, data = self.fresh(TEACHER, seed), self.poisoned(attack, seed) if attack else self.images(seed)
            log = train_classifier(model, data.images, data.labels, self.settings.training, seed, self.watch(work))
            keep_log(work, log)
            return model.state_dict(), {"poisoned": len(data.rows) if attack else 0}

        described = {
            **self.common(seed),
            "network": asdict(self.size(TEACHER)),
            "poison": asdict(self.poison_settings(attack)) if attack else None,
            "surrogate": surrogate.key if surrogate else None,
            "training": asdict(self.settings.training),
        }
        return self.make("classifier", described, compute)

    def poisoned(self, attack: str, seed: int) -> PoisonedSet:
        """The training images that a teacher sees."""
        images, gradient = self.images(seed), None
        if attack in PERTURBED:
            gradient = surrogate_gradient(self.network(self.classifier("", seed), TEACHER))
        return poison(images.images, images.labels, self.poison_settings(attack), seed, gradient)

    def student(self, subject: Subject, others: str = "") -> Artefact:
        """A student of a poisoned teacher.

        Args:
            subject: Which.
            others: Image set in the place of a method's own images.
        """
        teacher, method = self.classifier(subject.attack, subject.seed), METHODS[subject.method]
        config, seed = self.config(subject.method, subject.defence), subject.seed

        def compute(work: Workspace):
            student = self.fresh("student", seed + FRESH_STUDENT)
            course = _Course(self, work, student, subject)
            data = self._data(subject, others)
            if "show" in method.takes:
                data["show"] = course.show(subject.method, config)
            log = method.run(self.network(teacher, TEACHER), student, config, seed, course.watch(), **data)
            keep_log(work, log)
            return student.state_dict(), {**course.finish(), **vaccinated(log)}

        described = {
            **self.common(seed),
            "teacher": teacher.key,
            "network": asdict(self.size("student")),
            "method": subject.method,
            "config": asdict(config),
            "clean": self.settings.clean if "labels" in method.needs else None,
            "others": self.stages.facts(others).digest if others else None,
            "curve": [self.settings.curve, *self.held(seed)],
        }
        return self.make("datafree", described, compute)

    def config(self, method: str, defence: str) -> Any:
        """A method's settings with a defence plugged in."""
        choose("method", method, METHODS)
        return defended(
            getattr(self.settings, method), defence, sv=self.settings.vaccine, sr=self.settings.retrospection
        )

    def _data(self, subject: Subject, others: str) -> dict[str, Any]:
        """The images that a method is handed."""
        if "labels" in METHODS[subject.method].needs:
            share = clean_share(self.images(subject.seed), self.settings.clean, subject.seed)
            return {"images": share.images, "labels": share.labels}
        return {"images": self.stages.images(others).images.to(self.stages.device)} if others else {}

    # ---- the measurement ---------------------------------------------------------------------------------------

    def subject(self, subject: Subject, others: str = "") -> Artefact:
        """The network that a row is about."""
        if subject.stage == TEACHER:
            return self.classifier(subject.attack, subject.seed)
        return self.student(subject, others)

    def rated(self, subject: Subject, others: str = "") -> Artefact:
        """Every rate of a row."""
        artefact = self.subject(subject, others)

        def compute(work: Workspace):
            model = self.network(artefact, subject.stage)
            return None, self.rates(model, subject.attack, self.test_images(subject.seed))

        described = {
            "subject": artefact.key,
            "images": self.held(subject.seed),
            "trigger": asdict(LabelTrigger(subject.attack)),
            "target": self.settings.target,
        }
        return self.make("rated", described, compute)

    def rates(self, model: WideResNet, attack: str, held: ImageSet) -> dict[str, float]:
        """The rates of one network, which is left in the mode it was in."""
        trigger, was_training = LabelTrigger(attack), model.training
        model.eval()
        looks = (lambda images: images, trigger, trigger.placebo())
        seen = [classes(model, held.images, look) for look in looks]
        model.train(was_training)
        return rates(*seen, held.labels.cpu(), self.settings.target)


def rated(stages: Stages, settings: DataFree, subject: Subject, others: str) -> Artefact:
    """A network's rates, with all that it is made from."""
    return DataFreeStages(stages, settings).rated(subject, others)


def vaccinated(log: list[dict[str, float]]) -> dict[str, Any]:
    """What became of a vaccine, for a student's metrics; nothing where none was asked for.

    `vaccine` is the number of the accepted try from 1, or `off`: then `abd` was `sr` alone. `suspicious` is the
    percentage of suspicious images.
    """
    last = log[-1] if log else {}
    if "vaccine" not in last:
        return {}
    if last["vaccine"] < 0:
        return {"vaccine": "off", "suspicious": None}
    return {"vaccine": int(last["vaccine"]) + 1, "suspicious": 100 * last["suspicious"]}


@torch.no_grad()
def classes(model: WideResNet, images: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
    """What a network says of uint8 images (N, 3, H, W) after `look`: classes (N,), on the CPU."""
    return torch.cat([model(to_unit(look(part))).argmax(1) for part in images.split(CHUNK)]).cpu()


class _Course:
    """What is looked at while a student is trained: its rates, and the images that its method makes.

    What was seen lies beside the checkpoint, so that a killed training goes on with it.
    """

    def __init__(self, stages: DataFreeStages, work: Workspace, student: WideResNet, subject: Subject):
        self.stages, self.work, self.student, self.subject = stages, work, student, subject
        self.held = stages.test_images(subject.seed, SHOWN)

    def watch(self) -> Watch:
        """Reports, checkpoints, and rates at each point of the curve."""
        points = self.stages.settings.curve

        def report(step: int, steps: int, terms: dict[str, float]) -> None:
            self.work.report(step, steps, terms)
            if step % max(1, steps // points) == 0 or step == steps:
                found = self.stages.rates(self.student, self.subject.attack, self.held)
                write_json(self._path(f"curve-{step:08d}.json"), {"step": step, **found})

        checkpoint = self.work.checkpoint / "training.pt"
        return Watch(report, checkpoint, self.stages.stages.checkpoint_s, points, saved=self.work.kept)

    def show(self, method: str, config: Any) -> Callable[[int, Any], None]:
        """What a method that makes images calls before each turn."""
        last = config.turns - 1
        turns = {round(share * last) for share in MOMENTS}

        def show(turn: int, maker: Any) -> None:
            if turn in turns:
                torch.save(MAKERS[method](maker).mul(255).round().to(torch.uint8), self._path(f"made-{turn:08d}.pt"))

        return show

    def finish(self) -> dict[str, Any]:
        """Move what was seen to the artefact; its metrics."""
        points = [json.loads(path.read_text()) for path in sorted(self.work.checkpoint.glob("curve-*.json"))]
        pandas.DataFrame(points).to_csv(self.work.folder / "curve.csv", index=False)
        made = sorted(self.work.checkpoint.glob("made-*.pt"))
        for path in made:
            (self.work.folder / path.name).write_bytes(path.read_bytes())
        return {"made": [int(path.stem.removeprefix("made-")) for path in made]}

    def _path(self, name: str):
        self.work.checkpoint.mkdir(parents=True, exist_ok=True)
        return self.work.checkpoint / name
