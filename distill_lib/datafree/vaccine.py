"""The Shuffling Vaccine (arXiv 2306.02368): a shuffled teacher that knows shortcuts and little else.

`T~` is the mean logit of copies of the teacher whose last convolutions have their input channels permuted. What a
backdoor's few strong channels decide survives the shuffling; what needs many channels together does not. So where
`T~(x)` and `T(x)` name the same class, `x` is suspicious.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_lib.datafree.divergence import divergences, scale
from distill_lib.errors import UsageError, choose

FLOOR = 1e-12  # below it, a divergence is rounding
CHUNK = 512  # images scored at a time
UNDECIDED, OFF = -2, -1


@dataclass(frozen=True)
class VaccineConfig:
    """Settings of the vaccine; published where not marked.

    Attributes:
        weight: Of the generator's term, and of the suspicious images' in the released weighting.
        copies: Shuffled copies of the teacher.
        convolutions: How many of the last ones are shuffled, at most those of the last block [ours] (5 in a WRN-16).
        alpha: Suspicious images weigh 1 / alpha in the paper's weighting. Its value is not in the facts: 10 [ours],
            which is the released weight.
        variant: Where method and defence meet on images: `paper` keeps suspicious ones at 1 / alpha, `released` takes
            `mean KL(kept) - weight mean KL(suspicious)`.
        direction: Of the divergence in score and generator's term: `teacher_first`, KL(T || T~), as published and
            released, or `vaccine_first` [ours]. The release differs in the score's sign, which is `auc`'s option.
        outliers: A vaccine is accepted when a larger share of log10 KL lies below mean - `deviations` sd.
        deviations: See `outliers`.
        tries: Shufflings tried, else the vaccine stays off.
        start: Share of the training after which it is tried, all tries at once, on images synthesised by then [ours]:
            an untrained generator has no outliers to show.
        probes: Images it is tried on [ours].
        acceptance: Whether the test is made at all; without it the first shuffling serves [ours].
    """

    weight: float = 0.1
    copies: int = 3
    convolutions: int = 5
    alpha: float = 10.0
    variant: str = "paper"
    direction: str = "teacher_first"
    outliers: float = 0.02
    deviations: float = 3.0
    tries: int = 8
    start: float = 0.02
    probes: int = 1024
    acceptance: bool = True

    def __post_init__(self):
        choose("variant of the vaccine", self.variant, WEIGHTINGS)
        choose("direction of the vaccine's score", self.direction, DIRECTIONS)
        if min(self.copies, self.convolutions, self.tries) < 1 or self.probes < 2:
            raise UsageError(
                f"copies {self.copies}, convolutions {self.convolutions}, tries {self.tries}, probes {self.probes} "
                "are impossible; allowed: 1 or more, probes 2 or more"
            )
        if not (self.alpha > 0 and self.weight >= 0 and 0 <= self.start < 1):
            raise UsageError(
                f"alpha {self.alpha}, weight {self.weight}, start {self.start} are impossible; "
                "allowed: alpha > 0, weight >= 0, 0 <= start < 1"
            )


def _paper(values: Tensor, suspicious: Tensor, config: VaccineConfig) -> Tensor:
    return torch.where(suspicious, values / config.alpha, values).mean()


def _released(values: Tensor, suspicious: Tensor, config: VaccineConfig) -> Tensor:
    return masked_mean(values, ~suspicious) - config.weight * masked_mean(values, suspicious)


WEIGHTINGS = {"paper": _paper, "released": _released}
DIRECTIONS = {
    "teacher_first": lambda teacher, shuffled: divergences(teacher, shuffled),
    "vaccine_first": lambda teacher, shuffled: divergences(shuffled, teacher),
}


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B,) where the mask says so; 0 where it never does."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


class Vaccine(nn.Module):
    """The shuffled teacher, from the moment that it is accepted.

    Its only state is which try was accepted: the copies come again from seed and teacher, so a checkpoint is small.

    Args:
        teacher: A frozen `WideResNet`.
        config: Settings.
        seed: Of the permutations.
    """

    def __init__(self, teacher: nn.Module, config: VaccineConfig, seed: int):
        super().__init__()
        self.config, self.seed = config, seed
        self.register_buffer("accepted", torch.tensor(UNDECIDED))  # stays on the CPU: asking must not make a GPU wait
        self._teacher, self._copies, self._built = [teacher], [], UNDECIDED  # in lists: no part of the state

    @property
    def decided(self) -> bool:
        """Whether the tries were made."""
        return int(self.accepted) != UNDECIDED

    @property
    def active(self) -> bool:
        """Whether one was accepted."""
        return int(self.accepted) >= 0

    def decide(self, images: Callable[[], Tensor]) -> None:
        """Try shufflings until one is accepted.

        Args:
            images: Gives probe images (N, 3, H, W) in [0, 1].
        """
        probes = images() if self.config.acceptance else None
        for number in range(self.config.tries):
            self.accepted.fill_(number)
            if probes is None or self.accepts(self.scores(probes)):
                return
        self.accepted.fill_(OFF)

    def accepts(self, scores: Tensor) -> bool:
        """Whether the share of log10 KL (N,) below mean - 3 sd exceeds 2 %."""
        return outlier_share(scores, self.config.deviations) > self.config.outliers

    def logits(self, maps: Tensor) -> Tensor:
        """T~(x), (B, classes): mean logits of the copies, of the teacher's maps after `block2`.

        Raises:
            UsageError: If no vaccine was accepted.
        """
        if not self.active:
            raise UsageError("no vaccine was accepted: there are no shuffled logits; allowed: after an accepted try")
        if self._built != int(self.accepted):
            self._copies, self._built = self._shuffle(int(self.accepted)), int(self.accepted)
        return torch.stack([each.tail(maps) for each in self._copies]).mean(0)

    def divergences(self, shuffled: Tensor, teacher: Tensor) -> Tensor:
        """KL(T || T~) of each image, (B,), or the other way: `direction`."""
        return DIRECTIONS[self.config.direction](teacher, shuffled)

    def generator_term(self, maps: Tensor, logits: Tensor, mean: str) -> Tensor:
        """- 0.1 mean KL(T || T~) over the suspicious images, which moves the generator away from them.

        That the mean is taken over suspicious images alone is our reading [ours].

        Args:
            maps: The teacher's after `block2`, with their graph.
            logits: The teacher's, likewise.
            mean: Convention of the method's divergence.
        """
        shuffled = self.logits(maps)
        values = masked_mean(self.divergences(shuffled, logits), suspicious(shuffled, logits))
        return -self.config.weight * scale(mean, logits.shape[1]) * values

    @torch.no_grad()
    def suspects(self, maps: Tensor, logits: Tensor) -> Tensor:
        """Which images are suspicious, bool (B,), of the teacher's maps after `block2` and its logits."""
        return suspicious(self.logits(maps), logits)

    def weigh(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mean of a batch's divergences (B,) with the suspicious images (`mask`, bool) weighed down: `variant`."""
        return WEIGHTINGS[self.config.variant](values, mask, self.config)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """log10 KL of T and T~, (N,), of images in [0, 1]: low where suspicious."""
        parts = []
        for part in images.split(CHUNK):
            maps = self._teacher[0].trunk(part)
            values = self.divergences(self.logits(maps), self._teacher[0].tail(maps))
            parts.append(values.clamp_min(FLOOR).log10())
        return torch.cat(parts)

    def _shuffle(self, number: int) -> list[nn.Module]:
        source = torch.Generator().manual_seed(self.config.tries * self.seed + number)
        return [shuffled(self._teacher[0], self.config.convolutions, source) for _ in range(self.config.copies)]


def shuffled(teacher: nn.Module, convolutions: int, source: torch.Generator) -> nn.Module:
    """A copy of which the last convolutions have their input channels permuted, each in its own way.

    Only its `tail` is kept: what comes before is the teacher's own.
    """
    twin = copy.deepcopy(teacher).eval().requires_grad_(False)
    twin.conv = twin.block1 = twin.block2 = nn.Identity()
    last = [each for each in twin.block3.modules() if isinstance(each, nn.Conv2d)][-convolutions:]
    for layer in last:
        order = torch.randperm(layer.in_channels, generator=source).to(layer.weight.device)
        layer.weight.data = layer.weight.data[:, order].contiguous(memory_format=torch.channels_last)
    return twin


def suspicious(shuffled_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """phi(x) = [argmax T~(x) = argmax T(x)], bool (B,)."""
    return shuffled_logits.argmax(1) == teacher_logits.argmax(1)


def outlier_share(scores: Tensor, deviations: float = 3.0) -> float:
    """Share of the scores (N,) below mean - `deviations` sd."""
    scores = scores.double()
    return float((scores < scores.mean() - deviations * scores.std(unbiased=False)).double().mean())


def auc(clean: Tensor, triggered: Tensor, suspicious_is: str = "low") -> float:
    """Area under the ROC: the chance that a triggered image is more suspicious than a clean one (ties count half).

    Args:
        clean: Scores (N,).
        triggered: Scores (M,).
        suspicious_is: `low`, as the acceptance test and the paper have it, or `high`: the released evaluation takes
            high divergences for triggered ones, which is one less the other.

    Raises:
        UsageError: If the sign is neither.
    """
    choose("sign of the vaccine's score", suspicious_is, dict.fromkeys(("low", "high")))
    if suspicious_is == "high":
        return auc(-clean, -triggered)
    ordered = clean.double().sort().values
    triggered = triggered.double()
    below = torch.searchsorted(ordered, triggered, right=False)
    upto = torch.searchsorted(ordered, triggered, right=True)
    above = 2 * len(clean) - below - upto
    return float(above.double().mean()) / (2 * len(clean))
