"""The published settings, a data set each: teachers, defences, thieves, students."""

from dataclasses import dataclass, replace

from distill_lib.errors import choose
from distill_lib.training.loop import Schedule
from distill_lib.training.supervised import SteppedSchedule, stepped_schedule
from distill_lib.undistillable.ast import ASTConfig
from distill_lib.undistillable.nasty import NastyConfig
from distill_lib.undistillable.thieves import ThiefConfig


@dataclass(frozen=True)
class Preset:
    """The published settings on one data set. Their schedules are those of the whole training set.

    Attributes:
        images: In the training set.
        epochs: Of teachers and students.
        drops: Of the learning rate, as shares of the training.
        factor: Of each drop.
        nasty: Of the nasty teacher.
        keep: Logits that the stingy teacher tells.
        ast: Of the adversarial sparse teacher; None where none is published.
        thief: KD at the published alpha and T.
        stingy_thief: Likewise in the study of stingy teachers, which takes T = 20 everywhere.
        teachers: Names in `CLASSIFIERS`.
        students: Likewise.
    """

    images: int
    epochs: int
    drops: tuple[float, ...]
    factor: float
    nasty: NastyConfig
    keep: int
    ast: ASTConfig | None
    thief: ThiefConfig
    stingy_thief: ThiefConfig
    teachers: tuple[str, ...]
    students: tuple[str, ...]

    def schedule(self, count: int | None = None, epochs: float | None = None, **others) -> SteppedSchedule:
        """The schedule of teachers and students, on `count` images or for `epochs` where these differ."""
        shape = {"drops": self.drops, "factor": self.factor}
        return stepped_schedule(count or self.images, epochs or self.epochs, **shape, **others)

    def student_schedule(self, network: str, count: int | None = None, share: float = 1.0) -> Schedule:
        """The schedule of a student by its name in `CLASSIFIERS`; the CNNs have one of their own.

        Args:
            network: The student's name.
            count: Images, where they are not the whole training set.
            share: Of the published epochs.
        """
        if network not in CNNS:
            return self.schedule(count, share * self.epochs)
        steps = stepped_schedule(count or self.images, share * CNN_EPOCHS).steps
        return Schedule(steps, 128, "adam", 1e-3, weight_decay=0.0)


CNNS, CNN_EPOCHS = ("cnn", "cnn_small"), 100  # Adam 1e-3, constant


def _preset(
    images: int,
    epochs: int,
    steps: tuple[tuple[float, ...], float],
    nasty: tuple[float, float],
    keep: int,
    ast: tuple[float, float, int] | None,
    temperature: float,
    networks: tuple[tuple[str, ...], tuple[str, ...]],
) -> Preset:
    schedule = stepped_schedule(images, epochs, *steps)
    thief = ThiefConfig(schedule, temperature=temperature)
    return Preset(
        images,
        epochs,
        *steps,
        nasty=NastyConfig(schedule, *nasty),
        keep=keep,
        ast=ASTConfig(schedule, *ast) if ast else None,
        thief=thief,
        stingy_thief=replace(thief, temperature=20.0),
        teachers=networks[0],
        students=networks[1],
    )


CIFAR10 = ((0.5, 0.75), 0.1)  # at epochs 80 and 120 of 160
OTHERS = ((0.3, 0.6, 0.8), 0.2)  # at epochs 60, 120 and 160 of 200
SMALL_NETWORKS = ("cnn", "preresnet20", "preresnet32", "resnet18")
LIGHT_NETWORKS = ("shufflenetv2", "mobilenetv2", "resnet18")
RESNETS = ("resnet18", "resnet50")

PRESETS: dict[str, Preset] = {
    "cifar10": _preset(50_000, 160, CIFAR10, (0.04, 4.0), 2, (0.05, 6.0, 2), 4.0, (("resnet18",), SMALL_NETWORKS)),
    "cifar100": _preset(50_000, 200, OTHERS, (0.005, 20.0), 10, (0.035, 30.0, 7), 20.0, (RESNETS, LIGHT_NETWORKS)),
    "tiny_imagenet": _preset(100_000, 200, OTHERS, (0.01, 20.0), 20, None, 20.0, (RESNETS, LIGHT_NETWORKS)),
}
AST_ALPHA = {("cifar100", "resnet50"): 0.03}  # where it differs from the ResNet-18's


def published_ast(dataset: str, network: str) -> ASTConfig | None:
    """AST's settings of a data set and an architecture; None where none are published."""
    config = choose("preset", dataset, PRESETS).ast
    alpha = AST_ALPHA.get((dataset, network))
    return replace(config, alpha=alpha) if config and alpha else config
