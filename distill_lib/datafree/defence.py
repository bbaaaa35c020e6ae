"""ABD (arXiv 2306.02368) as a plug-in over any method: the Shuffling Vaccine, Self-Retrospection, both, or none.

A method asks its `Guard` at three places: for a term of the generator's loss, for the mean over a batch of
divergences, and for a term of the student's loss. The guard draws nothing from the method's generator, so what is
switched off, or not yet on, leaves the method equal bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.datafree.divergence import Gauge, divergences, scale
from distill_lib.datafree.retrospection import PLAIN, RetrospectionConfig, find_delta, retrospect
from distill_lib.datafree.vaccine import CHUNK, OFF, Vaccine, VaccineConfig
from distill_lib.training.device import generator


@dataclass(frozen=True)
class DefenceConfig:
    """Which parts of ABD are on.

    Attributes:
        sv: The Shuffling Vaccine; None: off.
        sr: Student Self-Retrospection; None: off.
    """

    sv: VaccineConfig | None = None
    sr: RetrospectionConfig | None = None


DEFENCES: dict[str, DefenceConfig] = {
    "none": DefenceConfig(),
    "sv": DefenceConfig(sv=VaccineConfig()),
    "sr": DefenceConfig(sr=RetrospectionConfig()),
    "abd": DefenceConfig(sv=VaccineConfig(), sr=RetrospectionConfig()),
}


class Guard:
    """A defence at work in one training.

    Args:
        config: What is on.
        teacher: Frozen, in eval mode.
        student: The student.
        turns: Of the training.
        seed: Of the training; the guard's own draws come from it, through other generators.
        gauge: How the method measures its divergence.
    """

    def __init__(
        self,
        config: DefenceConfig,
        teacher: nn.Module,
        student: nn.Module,
        turns: int,
        seed: int,
        gauge: Gauge = PLAIN,
    ):
        self.gauge = gauge if config.sr and config.sr.softened else PLAIN
        self.config, self.teacher, self.student, self.turns, self.seed = config, teacher, student, turns, seed
        self.vaccine = Vaccine(teacher, config.sv, seed) if config.sv else None
        self._delta: tuple[int, Tensor] | None = None

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint has to hold."""
        return {"vaccine": self.vaccine} if self.vaccine else {}

    def prepare(self, turn: int, probes: Callable[[int, torch.Generator], Tensor]) -> None:
        """At the start of a turn: try the vaccine when its time has come.

        Args:
            turn: Its number from 0.
            probes: (count, generator) -> images (N, 3, H, W) in [0, 1] such as the method trains on.
        """
        if self.vaccine is None or self.vaccine.decided or turn < self.vaccine.config.start * self.turns:
            return
        with torch.no_grad():
            self.vaccine.decide(lambda: probes(self.vaccine.config.probes, self._source(turn)))

    def generator_terms(self, maps: Tensor, logits: Tensor, mean: str) -> dict[str, Tensor]:
        """The vaccine's term of a generator's loss, where there is one.

        Args:
            maps: The teacher's after `block2`, with their graph.
            logits: The teacher's, likewise.
            mean: Convention of the method's divergence.
        """
        if self.vaccine is None:
            return {}
        return {"sv": self.vaccine.generator_term(maps, logits, mean) if self.vaccine.active else logits.new_zeros(())}

    def suspects(self, maps: Tensor, taught: Tensor) -> Tensor | None:
        """Which images of the teacher's maps after `block2` and logits are suspicious, bool (B,).

        None while no vaccine is at work; from then on an image's answer stays the same.
        """
        return self.vaccine.suspects(maps, taught) if self.vaccine is not None and self.vaccine.active else None

    def divergence(
        self, suspects: Tensor | None, taught: Tensor, learned: Tensor, temperature: float = 1.0, mean: str = "batch"
    ) -> Tensor:
        """Mean KL(T || S) of a batch of images that no generator made, suspicious ones weighed down.

        Args:
            suspects: Of the batch.
            taught: Logits (B, classes) of the teacher.
            learned: Of the student.
            temperature: T.
            mean: Convention of the mean.
        """
        values = divergences(taught, learned, temperature)
        average = values.mean() if suspects is None else self.vaccine.weigh(values, suspects)
        return scale(mean, taught.shape[1]) * average

    def student_terms(self, turn: int, images: Tensor) -> dict[str, Tensor]:
        """Self-Retrospection's term of the student's loss, in the last turns.

        Args:
            turn: Its number from 0.
            images: (B, 3, H, W), those of the student's step, without a graph; the same in all steps of a turn.
        """
        if self.config.sr is None:
            return {}
        if not self.reflecting(turn):
            return {"sr": images.new_zeros(())}
        delta = self._perturbation(turn, images)
        return {"sr": retrospect(self.student, images, delta, self.config.sr, self.gauge)}

    def reflecting(self, turn: int) -> bool:
        """Whether the student looks back in this turn."""
        return self.config.sr is not None and turn >= self.config.sr.first(self.turns)

    def set_mode(self, turn: int) -> None:
        """The student's mode in a turn: its batch norms stand still while it looks back [ours].

        Retrospection works on the student in eval mode. With batch norms that go on in train mode, the distillation
        would hold another function than the one that is changed: its loss stays, and the student that is handed out
        collapses.
        """
        self.student.train(not self.reflecting(turn))

    def rate(self, turn: int, usual: float) -> float:
        """The student's learning rate in a turn."""
        return self.config.sr.student_lr if self.reflecting(turn) else usual

    def renews(self, turn: int) -> bool:
        """Whether the student's optimiser begins anew with this turn."""
        sr = self.config.sr
        return sr is not None and sr.renew and turn == sr.first(self.turns)

    @torch.no_grad()
    def noted(
        self, log: list[dict[str, float]], probes: Callable[[int, torch.Generator], Tensor]
    ) -> list[dict[str, float]]:
        """The log, its last row with what became of the vaccine: one that was refused leaves Retrospection alone.

        `vaccine` is the number of the accepted try from 0, or `OFF`; `suspicious`, where there is one, the share of
        suspicious images among those that the method has by the end.

        Args:
            log: Of the whole training.
            probes: As in `prepare`.
        """
        if self.vaccine is None or not log:
            return log
        log[-1]["vaccine"] = float(max(OFF, int(self.vaccine.accepted)))
        if self.vaccine.active:
            images = probes(self.vaccine.config.probes, self._source(self.turns))
            maps = [self.teacher.trunk(part) for part in images.split(CHUNK)]
            found = torch.cat([self.suspects(each, self.teacher.tail(each)) for each in maps])
            log[-1]["suspicious"] = float(found.double().mean())
        return log

    def _perturbation(self, turn: int, images: Tensor) -> Tensor:
        """Delta of this turn's images: found once where the teacher, which is constant, decides it."""
        if self.config.sr.found_on == "student":
            was_training = self.student.training
            delta = find_delta(self.student.eval(), images, self.config.sr, self._source(turn), self.gauge)
            self.student.train(was_training)
            return delta
        if self._delta is None or self._delta[0] != turn:
            delta = find_delta(self.teacher, images, self.config.sr, self._source(turn), self.gauge)
            self._delta = turn, delta
        return self._delta[1]

    def _source(self, turn: int) -> torch.Generator:
        device = next(self.student.parameters()).device
        return generator(self.seed * self.turns + turn + 1_000_003, device)
