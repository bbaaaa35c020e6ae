"""How well trigger inversion tells attacked encoders from clean ones: many small encoders, judged as they come.

The settings of the search were chosen on exploration seeds, on clean encoders and on BadEncoder with its white square
in the corner. Held out from the design are one attack (CTRL) and one trigger (`HELD_OUT`). The threshold comes from
clean encoders of other seeds than those that are judged, and no judged encoder is looked at before.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from distill_lib.defences.inversion import InversionConfig, invert
from distill_lib.evaluation.detection import auc_interval, share, threshold
from distill_lib.evaluation.verdicts import took
from distill_lib.study import tables
from distill_lib.study.cells import Cell
from distill_lib.study.session import Study
from distill_lib.study.stages import Stages
from distill_lib.study.store import Artefact, Workspace
from distill_lib.study.workers import Task
from distill_lib.tools.inspect.audit import AuditConfig, Window, audit
from distill_lib.tools.inspect.inspect import MOST_IMAGES
from distill_lib.tools.inspect.reference import CleanScores
from distill_lib.vision.triggers import Patch, Trigger

VERSION = 1  # of a score and of an audit in the store
PROBE = "head"
INSPECTOR = 5000  # added to a seed: the inspector's images are not the defender's
COLUMNS = (
    "group", "attack", "trigger", "downstream", "defence", "seed", "held_out", "n_test", "planted", "asr", "clean_asr",
    "size", "similarity", "clean_similarity", "reached", "key",
)  # fmt: skip
AUDIT_COLUMNS = ("attack", "trigger", "downstream", "encoder", "seed", "question", "step", "n_test", "share", "key")
SUMMARY_COLUMNS = (
    "attacked", "n_clean", "n_attacked", "auc", "low", "high", "threshold", "n_reference", "flagged_clean",
    "false_positive_rate", "fpr_low", "fpr_high", "flagged_attacked", "true_positive_rate", "tpr_low", "tpr_high",
)  # fmt: skip
# Attacked encoders by trigger, beside the profile's own. Places are off the grid of the search.
TRIGGERS: dict[str, Trigger | None] = {
    "profile's": None,
    "white 6": Patch(6, 25, 25),
    "orange 8": Patch(8, 3, 13, (255, 128, 0)),
}
HELD_OUT = "orange 8"
HELD_OUT_ATTACK = "ctrl"
PURIFIED = ("finetune", "recipe")
CONTROL = "clean_share"  # never attacked, and trained on as few images as a cure that starts anew


@dataclass
class Triggered(Stages):
    """Stages whose BadEncoder plants another trigger than the profile's.

    Attributes:
        planted: The trigger; None: the profile's own, under the study's own keys.
    """

    planted: Trigger | None = None

    def trigger(self) -> Trigger:
        """The attacker's trigger."""
        return self.planted or super().trigger()


@dataclass(frozen=True)
class Subject:
    """One encoder of the experiment.

    Attributes:
        group: `reference` (clean, for the threshold alone), `clean`, `attacked`, `purified` or `control` (clean images
            alone).
        seed: Of everything.
        attack: Empty for those that were never attacked.
        trigger: Name in `TRIGGERS`; of other attacks `profile's`.
        defence: Of purified ones, one of `PURIFIED`; of controls `CONTROL`.
    """

    group: str
    seed: int
    attack: str = ""
    trigger: str = "profile's"
    defence: str = "none"

    @property
    def held_out(self) -> bool:
        """Whether the design of the search has seen no encoder of this kind."""
        return self.attack == HELD_OUT_ATTACK or self.trigger == HELD_OUT


@dataclass(frozen=True)
class Plan:
    """Which encoders, by seed.

    Attributes:
        reference: Seeds of the clean encoders that the threshold comes from.
        clean: Of those that are judged.
        badencoder: Of each trigger.
        ctrl: Of CTRL.
        poisoned_data: Likewise; counted as attacked only where planted.
        purified: Of the cured encoders, under the profile's trigger and under CTRL, and of the controls.
    """

    reference: tuple[int, ...] = tuple(range(20, 28))
    clean: tuple[int, ...] = tuple(range(12))
    badencoder: tuple[int, ...] = (0, 1, 2, 3)
    ctrl: tuple[int, ...] = (0, 1, 2, 3)
    poisoned_data: tuple[int, ...] = (4, 5)
    purified: tuple[int, ...] = (0, 1, 2, 3)

    def subjects(self) -> list[Subject]:
        """All encoders, the threshold's first. Each trigger has seeds of its own, next to each other."""
        found = [Subject("reference", seed) for seed in self.reference]
        found += [Subject("clean", seed) for seed in self.clean]
        for number, trigger in enumerate(TRIGGERS):
            shifted = (seed + number * (max(self.badencoder, default=0) + 1) for seed in self.badencoder)
            found += [Subject("attacked", seed, "badencoder", trigger) for seed in shifted]
        for attack in ("ctrl", "poisoned_data"):
            found += [Subject("attacked", seed, attack) for seed in getattr(self, attack)]
        for attack in ("badencoder", "ctrl"):
            found += [Subject("purified", seed, attack, defence=name) for seed in self.purified for name in PURIFIED]
        return found + [Subject("control", seed, defence=CONTROL) for seed in self.purified]


# ---- one encoder ----------------------------------------------------------------------------------------------------


def under(stages: Stages, subject: Subject) -> Triggered:
    """The stages of a subject's attack and trigger."""
    values = {name: getattr(stages, name) for name in Stages.__dataclass_fields__}
    profile = replace(stages.profile, attack=subject.attack or stages.profile.attack)
    return Triggered(**{**values, "profile": profile}, planted=TRIGGERS[subject.trigger])


def place(stages: Stages, subject: Subject) -> str:
    """The downstream set that a subject's attack is measured on; an attack on data, by default, on its own classes."""
    profile = stages.profile
    if subject.attack in profile.further:
        return profile.further[subject.attack].downstream[0]
    return profile.compared if subject.attack in ("", profile.attack) else profile.pretrain


def cell_of(stages: Triggered, subject: Subject, downstream: str) -> Cell:
    """The row of the study that a subject would be."""
    attack, profile = stages.profile.attack, stages.profile
    target = stages.target(downstream, subject.seed) if subject.attack else 0
    clean = Cell(profile.pretrain, attack, downstream, target, "clean", "none", "", "", "", subject.seed)
    settings = profile.distillation
    cells: dict[str, Callable[[], Cell]] = {
        "none": lambda: replace(clean, stage="attacked") if subject.attack else clean,
        "recipe": lambda: clean.distilled(settings.teacher, settings.student, settings.loss),
    }
    return cells.get(subject.defence, lambda: clean.defended(subject.defence))()


def scored(stages: Stages, encoder: Artefact, config: InversionConfig, seed: int) -> Artefact:
    """The inversion of an encoder of the store, kept there."""

    def compute(work: Workspace):
        found = invert(float32(stages, encoder), pictures(stages, seed), config, seed, lambda: stages.watch(work))
        numbers = {name: getattr(found, name) for name in ("size", "similarity", "clean_similarity", "reached")}
        return {"mask": found.trigger.mask, "pattern": found.trigger.pattern}, numbers

    described = {**_described(stages, encoder, seed), "inversion": asdict(config)}
    return stages.store.make("inspected", VERSION, described, compute)


def audited(
    stages: Triggered, encoders: dict[str, Artefact], window: Window, reference: Tensor, config: AuditConfig, seed: int
) -> Artefact:
    """The audit of several encoders of one attack, kept in the store."""

    def compute(work: Workspace):
        loaded = {name: float32(stages, encoder) for name, encoder in encoders.items()}
        rows = audit(loaded, pictures(stages, seed), window, stages.trigger(), reference, config, seed)
        return None, {"rows": rows}

    keys = {name: encoder.key for name, encoder in encoders.items()}
    about = {"window": asdict(window), "planted": asdict(stages.trigger()), "reference": reference.tolist()}
    described = {**_described(stages, encoders["attacked"], seed), "encoders": keys, **about, "audit": asdict(config)}
    return stages.store.make("audited", VERSION, described, compute)


def float32(stages: Stages, artefact: Artefact) -> torch.nn.Module:
    """The encoder of an artefact, in the precision of every inspection, whatever it was trained in."""
    return replace(stages, precision="float32").encoder(artefact)


def pictures(stages: Stages, seed: int) -> Tensor:
    """The inspector's images: a random part of the pre-training set, uint8 (N, 3, H, W)."""
    images = stages.pretraining.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed + INSPECTOR))
    return images[order[:MOST_IMAGES].sort().values.to(images.device)]


def _described(stages: Stages, encoder: Artefact, seed: int) -> dict[str, Any]:
    return {"encoder": encoder.key, "images": stages.pretraining_facts.digest, "count": MOST_IMAGES, "seed": seed}


# ---- all of them ----------------------------------------------------------------------------------------------------


def row_of(stages: Stages, subject: Subject, config: InversionConfig) -> dict[str, Any]:
    """Make (or find) an encoder, its score, and whether its attack took."""
    inside, downstream = under(stages, subject), place(stages, subject)
    cell = cell_of(inside, subject, downstream)
    encoder = inside.encoder_of(cell)
    score = scored(inside, encoder, config, subject.seed)
    return {
        **{name: getattr(subject, name) for name in ("group", "attack", "trigger", "defence", "seed", "held_out")},
        "downstream": downstream if subject.attack else "",
        **(_planted(inside, cell) if subject.attack else {}),
        **score.metrics,
        "key": score.key,
    }


def _planted(stages: Triggered, cell: Cell) -> dict[str, Any]:
    """ASR of a cell and of the clean encoder of its seed, and whether the attack took, by the rule of the verdicts."""
    before = replace(cell, stage="clean", defence="none", teacher="", student="", loss="")
    clean, attacked, own = (
        stages.measured(each).metrics[PROBE] for each in (before, replace(before, stage="attacked"), cell)
    )
    planted = took(pd.DataFrame([clean]), pd.DataFrame([attacked])).planted
    return {"asr": own["asr"], "clean_asr": clean["asr"], "planted": bool(planted), "n_test": own["n_test"]}


def audit_rows(stages: Stages, plan: Plan, config: AuditConfig) -> Iterator[list[dict[str, Any]]]:
    """The audit of the cured encoders, beside the attacked and the clean one: rows, one list an attack and seed.

    Only attacks with a square trigger are audited: the window of another trigger is not defined.
    """
    for seed in plan.purified:
        subject = Subject("purified", seed, "badencoder")
        inside, downstream = under(stages, subject), place(stages, subject)
        names = ("none", *PURIFIED, CONTROL)
        cells = {name: cell_of(inside, replace(subject, defence=name), downstream) for name in names}
        encoders = {{"none": "attacked"}.get(name, name): inside.encoder_of(cell) for name, cell in cells.items()}
        encoders["clean"] = inside.pretrained(seed)
        trigger, first = inside.trigger(), inside.references(downstream, seed)[:1]
        reference = inside.training(downstream).images[first].to(stages.device)
        window = Window(trigger.row, trigger.column, trigger.size)
        found = audited(inside, encoders, window, reference, config, seed)
        about = {"attack": "badencoder", "trigger": subject.trigger, "downstream": downstream, "seed": seed}
        yield [{**about, **row, "n_test": MOST_IMAGES // 2, "key": found.key} for row in found.metrics["rows"]]


def summary(rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """AUC, false and true positives of the judged encoders: all together, the design's own kinds, what was held out.

    Attacks that did not take are left out; scores that share a seed are drawn together.

    Args:
        rows: As `row_of` makes them.
        rate: Share of clean encoders that the threshold is meant to flag.
    """
    limit = threshold(rows[rows["group"] == "reference"]["size"], rate)
    clean = rows[rows["group"] == "clean"]
    attacked = rows[(rows["group"] == "attacked") & (rows["planted"] == True)]  # noqa: E712 (empty where clean)
    kinds = {
        "all": attacked,
        "seen in the design": attacked[~attacked["held_out"].astype(bool)],
        "held-out trigger": attacked[attacked["trigger"] == HELD_OUT],
        "held-out attack": attacked[attacked["attack"] == HELD_OUT_ATTACK],
    }
    found = [{"attacked": name, **_judged(clean, part, limit)} for name, part in kinds.items() if len(part)]
    return pd.DataFrame(found, columns=list(SUMMARY_COLUMNS))


def _judged(clean: pd.DataFrame, attacked: pd.DataFrame, limit: Any) -> dict[str, Any]:
    area = auc_interval(clean["size"], attacked["size"], (list(clean["seed"]), list(attacked["seed"])))
    false, true = (share(int((part["size"] < limit.value).sum()), len(part)) for part in (clean, attacked))
    return {
        "n_clean": area.clean, "n_attacked": area.attacked, "auc": area.value, "low": area.low, "high": area.high,
        "threshold": limit.value, "n_reference": limit.n,
        "flagged_clean": false.hits, "false_positive_rate": false.value, "fpr_low": false.low, "fpr_high": false.high,
        "flagged_attacked": true.hits, "true_positive_rate": true.value, "tpr_low": true.low, "tpr_high": true.high,
    }  # fmt: skip


def run(
    stages: Stages, plan: Plan, folder: Path, config: InversionConfig, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """Score every encoder; after each the table is whole, and what the store holds is not computed again.

    Args:
        stages: Of the profile, in its store.
        plan: Which encoders.
        folder: Where `inspect.csv` goes.
        config: Of the search.
        say: Gets a line an encoder.
    """
    rows: list[dict[str, Any]] = []
    for subject in plan.subjects():
        rows.append(row_of(stages, subject, config))
        tables.merge(folder / "inspect.csv", rows[-1:], COLUMNS, stages.store.root, _others(plan), say)
        say(f"{_named(subject)}: {rows[-1]['size']:.4f}")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _others(plan: Plan) -> Callable[[tables.Row], bool]:
    """Tells rows of encoders that are not in the plan."""
    planned = {_place(asdict(subject)) for subject in plan.subjects()}
    return lambda row: _place(row) not in planned


def _place(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("group", "attack", "trigger", "defence", "seed"))


def _named(subject: Subject) -> str:
    parts = (subject.group, subject.attack, subject.trigger * bool(subject.attack), subject.defence)
    return f"{' '.join(part for part in parts if part and part != 'none')}, seed {subject.seed}"


def clean_scores(stages: Stages, rows: pd.DataFrame, config: InversionConfig) -> CleanScores:
    """The threshold's scores as a file for `inspect --clean-scores`."""
    scores = tuple(float(each) for each in rows[rows["group"] == "reference"]["size"])
    parameters = sum(each.numel() for each in stages.fresh(0).parameters())
    return CleanScores(config, parameters, MOST_IMAGES, scores)


def merged(path: Path, lists: Iterable[list[dict[str, Any]]], runs: Path) -> pd.DataFrame:
    """Write the audit's rows as they come."""
    rows: list[dict[str, Any]] = []
    for found in lists:
        rows += found
        tables.merge(path, found, AUDIT_COLUMNS, runs)
    return pd.DataFrame(rows, columns=list(AUDIT_COLUMNS))


# ---- several encoders at once ---------------------------------------------------------------------------------------


def made(stages: Stages, subject: Subject) -> Artefact:
    """The encoder of a subject: what another process makes."""
    inside = under(stages, subject)
    return inside.encoder_of(cell_of(inside, subject, place(stages, subject)))


def prepare(study: Study, plan: Plan) -> None:
    """Make the encoders several at once, as the study does; `run` finds them.

    Clean encoders come first, as every BadEncoder starts from one.
    """
    subjects = plan.subjects()
    clean = [replace(subject, group="clean", attack="", trigger="profile's", defence="none") for subject in subjects]
    for wanted in (dict.fromkeys(clean), *(_of(subjects, group) for group in ("attacked", "purified", "control"))):
        study.workers.run(study.stages, [Task(study.profile, made, (subject,)) for subject in wanted])


def _of(subjects: list[Subject], group: str) -> list[Subject]:
    return [subject for subject in subjects if subject.group == group]
