"""The stages: each gives an artefact, found in the store or computed from the artefacts below it."""

from dataclasses import asdict, replace

import torch

from distill_lib.distillation.distil import DistilConfig
from distill_lib.distillation.losses import resolve
from distill_lib.errors import choose
from distill_lib.evaluation.probes import PROBES
from distill_lib.evaluation.rates import rates, trigger_cos
from distill_lib.study.backdoors import BACKDOORS, Backdoor
from distill_lib.study.cells import Cell
from distill_lib.study.components import DEFENCES, STUDENTS, TEACHERS
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workshop import Workshop
from distill_lib.training.simclr import VIEWS
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger, placebo


class Stages(Workshop):
    """Everything the study makes, for one profile and its main attack, on one device."""

    # ---- the attack ----------------------------------------------------------------------------------------------

    @property
    def backdoor(self) -> Backdoor:
        """The main attack."""
        return choose("attack", self.profile.attack, BACKDOORS)

    def trigger(self) -> Trigger:
        """The attacker's trigger, for images of 32 pixels, which every set has here."""
        return self.backdoor.trigger(self.profile)

    def target(self, downstream: str, seed: int) -> int:
        """The target class: a setting, or found on training images where the attack does not choose it."""
        return self.backdoor.target(self, seed, downstream)

    def aimed(self, cell: Cell) -> Cell:
        """The cell with the target class that its attack has under these settings: another encoder may have another."""
        return replace(cell, target=self.target(cell.downstream, cell.seed))

    def references(self, downstream: str, seed: int) -> list[int]:
        """Rows of downstream training images that triggered images are to look like, the first above all."""
        return self.backdoor.references(self, seed, downstream)

    def attacked(self, seed: int, downstream: str) -> Artefact:
        """The encoder with the backdoor."""
        return self.backdoor.attacked(self, seed, downstream)

    # ---- the defences --------------------------------------------------------------------------------------------

    def distilled(self, cell: Cell) -> Artefact:
        """A student distilled from a teacher, on the views that their own making has left over."""
        settings = self.profile.distillation
        config = self.distillation(cell.teacher, cell.student, cell.loss)
        teacher, student = TEACHERS[cell.teacher].make(self, cell), STUDENTS[cell.student].make(self, cell)
        start_end = {name: getattr(settings, name) for name in ("fresh_stages", "bn_reset")}
        return self.distilled_from(teacher, student, config, cell.seed, **start_end)

    def distillation(self, teacher: str, student: str, loss: str) -> DistilConfig:
        """Settings of a distillation, as long as the views that teacher and student leave over pay for."""
        settings, budget = self.profile.distillation, self.profile.defender
        parts = choose("teacher", teacher, TEACHERS), choose("student", student, STUDENTS)
        weight = resolve(loss, settings.weights.get(loss)).weight
        same = {name: getattr(settings, name) for name in ("nt_xent_weight", "mixup", "cosine_weight")}
        same |= {"weight": weight, "augmentation": self.defender_views()}
        config = DistilConfig(self.defender_schedule(VIEWS), loss, **same)  # tells the views a step takes
        left = budget.views - sum(part.views(budget) for part in parts)
        schedule = self.defender_schedule(left, config.views_per_image)
        if settings.steps:
            schedule = replace(schedule, steps=settings.steps)
        return replace(config, schedule=schedule)

    def encoder_of(self, cell: Cell) -> Artefact:
        """The encoder that a row of the result table is about."""
        if cell.stage == "clean":
            return self.pretrained(cell.seed)
        if cell.stage == "attacked":
            return self.attacked(cell.seed, cell.downstream)
        if cell.defence == "distillation":
            return self.distilled(cell)
        return choose("defence", cell.defence, DEFENCES)(self, cell)

    # ---- the measurement -----------------------------------------------------------------------------------------

    def measured(self, cell: Cell, encoder: Artefact | None = None, on: str = "test") -> Artefact:
        """Every rate of a cell, by every probe; `encoder` measures another one in its place."""
        subject = encoder or self.encoder_of(cell)
        attacked = self.attacked(cell.seed, cell.downstream)

        def compute(work: Workspace):
            return None, self._measure(cell, subject, on)

        config = {
            "encoder": subject.key,
            "attacked": attacked.key,
            "on": on,
            "images": [self.facts(cell.downstream, split).digest for split in ("train", "test")],
            "limits": [self.profile.evaluation.train, self.profile.evaluation.test],
            "target": cell.target,
            "head": asdict(self.head()),
            "seed": cell.seed,
        }
        return self.make("measured", config, compute)

    def _measure(self, cell: Cell, subject: Artefact, on: str) -> dict[str, dict[str, float]]:
        encoder = self.encoder(subject)
        train, held = (each.to(self.device) for each in self.downstream(cell.downstream, on))
        trigger = self.trigger()
        features = extract(encoder, train.images)
        seen = [extract(encoder, held.images, transform=how) for how in (None, trigger, placebo(trigger))]
        reference = self.training(cell.downstream).images[self.references(cell.downstream, cell.seed)[:1]]
        cosine = trigger_cos(seen[1], extract(encoder, reference))
        result = {}
        for name, probe in PROBES.items():
            scores = probe(features, train.labels, len(train.classes), self.head(), cell.seed)
            with torch.no_grad():
                predictions = [scores(each).argmax(1).cpu() for each in seen]
            result[name] = {**rates(*predictions, held.labels.cpu(), cell.target), "trigger_cos": float(cosine)}
        return result
