"""The library's data-free methods, called as the study calls them, timed: one side of each pair."""

from dataclasses import replace

from distill_lib.datafree.cmi import CMIConfig, cmi
from distill_lib.datafree.generator import GeneratorConfig
from distill_lib.datafree.ood import OODConfig, answer, beta_quantiles, mixed, ood
from distill_lib.datafree.zskt import ZSKTConfig, zskt
from distill_lib.tools.bench.clock import now
from distill_lib.tools.bench.library import Stamps, timed
from distill_lib.tools.bench.pairs import Run
from distill_lib.tools.bench.setup import Setup
from distill_lib.training.loop import Schedule, Watch
from distill_lib.vision.features import to_unit
from distill_lib.vision.wide_resnet import folded

# Of `quick`, the fewest: over these epochs the one pass is spread in which the teacher is asked about all patches.
OOD_EPOCHS = 10


def ood_config(setup: Setup, fixed: bool = False) -> OODConfig:
    """OOD's settings, of one step."""
    return OODConfig(Schedule(1, setup.data_free.ood_batch, "adam", 1e-3, weight_decay=0.0), fixed=fixed)


def zskt_config(setup: Setup) -> ZSKTConfig:
    """ZSKT's settings, of one turn."""
    sizes = setup.data_free
    return ZSKTConfig(1, sizes.zskt_batch, generator=GeneratorConfig(channels=sizes.channels))


def cmi_config(setup: Setup) -> CMIConfig:
    """CMI's settings, of one round."""
    sizes, generator = setup.data_free, GeneratorConfig(channels=setup.data_free.channels, output="unit")
    made, learnt = sizes.cmi_steps
    return CMIConfig(1, made, sizes.cmi_images, learnt, sizes.cmi_batch, generator=generator)


def ood_steps(setup: Setup) -> Run:
    """Steps of OOD, mixed anew and the teacher asked each time."""
    return _ood(setup, ood_config(setup))


def fixed_ood_steps(setup: Setup) -> Run:
    """Steps of OOD on images mixed beforehand, each with its part of the one pass that asks the teacher."""
    config, teacher, images = ood_config(setup, fixed=True), folded(setup.classifiers()[0]), setup.pictures()
    steps_alone = _ood(setup, config)
    shares = beta_quantiles(config.cutmix).to(setup.device)

    def run(steps: int) -> float:
        start = now(setup.device)
        answer(teacher, to_unit(mixed(images[: config.schedule.batch], shares, 0)))
        return (now(setup.device) - start) / OOD_EPOCHS + steps_alone(steps)

    return run


def _ood(setup: Setup, config: OODConfig) -> Run:
    images = setup.pictures()

    def train(steps: int, watch: Watch) -> None:
        schedule = replace(config.schedule, steps=steps)
        ood(*setup.classifiers(), replace(config, schedule=schedule), 0, watch, images=images)

    return timed(setup, train)


def zskt_turns(setup: Setup) -> Run:
    """Turns of ZSKT: one step of the generator, all of the student's."""

    def train(turns: int, watch: Watch) -> None:
        zskt(*setup.classifiers(), replace(zskt_config(setup), turns=turns), 0, watch)

    return timed(setup, train)


def cmi_rounds(setup: Setup) -> Run:
    """Rounds of CMI. A first one warms up: a turn is one step of either, so only whole rounds are alike."""
    config = cmi_config(setup)

    def run(rounds: int) -> float:
        stamps, wanted = Stamps(setup.device), rounds + 1
        watch = Watch(report=stamps, log_points=wanted)
        cmi(*setup.classifiers(), replace(config, rounds=wanted), 0, watch)
        return config.turns * stamps.seconds_a_step()

    return run
