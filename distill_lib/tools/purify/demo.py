"""For those who have no suspicious encoder at hand: an attacked one of the study, whose backdoor is known."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas
from PIL import Image

from distill_lib.errors import UsageError
from distill_lib.study.cells import Cell
from distill_lib.study.session import open_study
from distill_lib.study.stages import Stages
from distill_lib.study.stale import Naming
from distill_lib.study.store import Artefact, writing

WEIGHTS = "weights.safetensors"
RATES = ["acc", "asr", "placebo_asr", "triggered_acc", "target_rate"]


class RunFirst(UsageError):
    """What must be run before; a notebook shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Demonstration:
    """An attacked encoder of the study, and what its user would have.

    Attributes:
        encoder: Its weights.
        images: Folder of the defender's clean images.
        out: Where the repaired weights go.
        arch: Its architecture, for `Settings`.
        cell: What it is attacked for.
        stages: What measures it.
    """

    encoder: Path
    images: Path
    out: Path
    arch: str
    cell: Cell
    stages: Stages

    def rates(self) -> pandas.DataFrame:
        """Accuracy and attack success, in percent, of the encoder before the attack, attacked, and repaired."""
        key = hashlib.sha256(self.out.read_bytes()).hexdigest()[:16]
        rows = {
            "before the attack": self.stages.measured(replace(self.cell, stage="clean")),
            "attacked": self.stages.measured(self.cell),
            "repaired": self.stages.measured(self.cell, Artefact("purified", key, self.out.parent)),
        }
        probe = self.stages.profile.evaluation.probe
        return pandas.DataFrame({name: row.metrics[probe] for name, row in rows.items()}).T[RATES]


def demonstrate(profile: str = "quick", seed: int = 0, device: str = "auto") -> Demonstration:
    """Find an attacked encoder in the store and write the defender's images beside it, as files.

    Args:
        profile: Of the study.
        seed: Of the attack.
        device: Where the study measures.

    Raises:
        RunFirst: If the store has no such encoder; one sentence on what makes it.
    """
    study = open_study(profile, seeds=[seed], device=device)
    stages, downstream = study.stages, study.profile.compared
    named = replace(stages, store=Naming(stages.store.root)).attacked(seed, downstream)
    found = stages.store.find(named.kind, named.key)
    if found is None:
        raise RunFirst(
            f"the store {str(stages.store.root)!r} has no attacked encoder of {profile!r}, seed {seed}; allowed: "
            f"after ./run_all.sh --profile {profile} --only 01_attack, or with an encoder of your own"
        )
    folder = stages.store.root / "your_encoder" / found.key
    with writing(folder):
        shutil.rmtree(folder / "images", ignore_errors=True)
        (folder / "images").mkdir(parents=True)
        for number, image in enumerate(stages.share(seed).cpu().permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / "images" / f"{number:04}.png")
    arch = f"study_stem{study.profile.encoder.stem_stride}"
    cell = study.attacked(downstream, seed)
    return Demonstration(found.folder / WEIGHTS, folder / "images", folder / WEIGHTS, arch, cell, stages)
