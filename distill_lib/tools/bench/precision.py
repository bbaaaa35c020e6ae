"""Does bf16 cost accuracy? The same pre-trainings in float32 and in bf16, seed by seed.

bf16 is the one change of arithmetic that the study's speed rests on: the batched augmentation is exact. Stated before
any run: both precisions count as equal where the 95 % paired interval of the mean difference in kNN accuracy lies
within 2 points. Seeds are those on which settings are chosen (from 100 up), images are training and validation images;
the accuracy is the mean over three downstream sets, since one set's 400 validation images tell no better than 2 points.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from distill_lib.data import ImageSet, holdout, load
from distill_lib.data.builtin import cache_file
from distill_lib.evaluation.probes import NearestNeighbours
from distill_lib.evaluation.statistics import Comparison, paired_interval
from distill_lib.study import store, tables
from distill_lib.study.config.load import load_profile
from distill_lib.study.config.profile import Profile
from distill_lib.study.workshop import VERSIONS
from distill_lib.training.loop import Schedule
from distill_lib.training.simclr import SimCLRConfig, simclr
from distill_lib.vision.encoders import EncoderConfig, build_encoder
from distill_lib.vision.features import extract

SETS = ("patterns", "shapes", "digits")
MARGIN = 2.0  # points of kNN accuracy
FIRST_SEED = 100
EPOCHS = 4
PRECISIONS = ("float32", "bf16")
COLUMNS = ("device", "pretrain", "downstream", "epochs", "precision", "seed", "n_test", "knn_acc", "key")
VALIDATION_SHARE = 0.2

Measure = Callable[[Profile, torch.device, str, int], tuple[int, float]]


def study(device: torch.device, folder: Path, runs: Path, seeds: int, say: Callable[[str], None] = print) -> Comparison:
    """Train and compare; a row that the table has already is not computed again.

    Args:
        device: Where to train.
        folder: Of `precision.csv` and `precision_<device>.json`, the verdict.
        runs: Holds the made images and the tables' locks.
        seeds: How many, from 100 up.
        say: Told the margin before, each row, the verdict after.

    Returns:
        The paired difference bf16 - float32, in points.
    """
    say(f"equal means: the 95 % paired interval of bf16 - float32 lies within {MARGIN:g} points of kNN accuracy")
    profile = load_profile("quick")
    wanted = [(seed, precision) for seed in range(FIRST_SEED, FIRST_SEED + seeds) for precision in PRECISIONS]
    rows = complete(
        profile, device, folder / "precision.csv", runs, wanted, lambda *args: trained(*args, runs / "data"), say
    )
    found = compare(rows, seeds)
    say(verdict(found))
    with store.writing(folder):
        store.write_json(
            folder / f"precision_{device.type}.json", {**asdict(found), "margin": MARGIN, "verdict": verdict(found)}
        )
    return found


def complete(
    profile: Profile,
    device: torch.device,
    path: Path,
    runs: Path,
    wanted: Iterable[tuple[int, str]],
    measure: Measure,
    say: Callable[[str], None] = print,
) -> list[tables.Row]:
    """The table's rows of this device and these settings, the missing ones measured and written one by one."""
    rows = []
    for seed, precision in wanted:
        about = {
            "device": device.type,
            "pretrain": profile.pretrain,
            "downstream": ";".join(SETS),
            "epochs": EPOCHS,
            "precision": precision,
            "seed": seed,
        }
        key = store.key("precision", 1, {**about, **_settings(profile)})
        row = next((each for each in tables.read(path) if each["key"] == key), None)
        if row is None:
            count, accuracy = measure(profile, device, precision, seed)
            new = {**about, "n_test": count, "knn_acc": accuracy, "key": key}
            tables.merge(path, [new], COLUMNS, runs)
            row = {name: tables.cell(value) for name, value in new.items()}
        say(f"seed {seed}, {precision}: {float(row['knn_acc']):.2f} % of {row['n_test']} validation images")
        rows.append(row)
    return rows


def compare(rows: Iterable[tables.Row], seeds: int) -> Comparison:
    """bf16 - float32 over the seeds, in points."""
    by_precision = {precision: {} for precision in PRECISIONS}
    for row in rows:
        by_precision[row["precision"]][int(row["seed"])] = float(row["knn_acc"])
    order = range(FIRST_SEED, FIRST_SEED + seeds)
    first, second = ([by_precision[precision][seed] for seed in order] for precision in ("bf16", "float32"))
    return paired_interval(first, second)


def verdict(found: Comparison) -> str:
    """One line: equal, different, or not to be told with so few seeds."""
    if found.low > -MARGIN and found.high < MARGIN:
        word = f"equal within {MARGIN:g} points"
    elif found.high < -MARGIN or found.low > MARGIN:
        word = f"different by more than {MARGIN:g} points"
    else:
        word = "undecided"
    return (
        f"bf16 - float32: {found.mean:+.2f} points, 95 % paired interval {found.low:+.2f} to {found.high:+.2f} "
        f"(n = {found.n} seeds): {word}"
    )


def trained(
    profile: Profile, device: torch.device, precision: str, seed: int, cache: Path | None = None
) -> tuple[int, float]:
    """Number of validation images and kNN accuracy (%), mean over the sets, of a short pre-training."""
    images = load(profile.pretrain, cache_dir=cache).to(device)
    encoder = build_encoder(EncoderConfig(**asdict(profile.encoder)), seed, precision).to(device)
    settings = asdict(profile.pretraining.optimisation)
    schedule = Schedule(EPOCHS * len(images) // settings["batch"], **settings)
    simclr(encoder, images.images, SimCLRConfig(schedule), seed)
    right = [_right(encoder, load(name, cache_dir=cache).to(device)) for name in SETS]
    return sum(map(len, right)), 100 * sum(float(each.double().mean()) for each in right) / len(right)


def _right(encoder, images: ImageSet) -> Tensor:
    """Which validation images of a set their nearest neighbours among the training images name, bool (N,)."""
    train, held = holdout(images, VALIDATION_SHARE, seed=0)
    probe = NearestNeighbours(extract(encoder, train.images), train.labels, len(train.classes))
    return probe(extract(encoder, held.images)).argmax(1) == held.labels


def _settings(profile: Profile) -> dict:
    """What else decides the accuracy."""
    images = [cache_file(name, "train") for name in (profile.pretrain, *SETS)]  # named by what is drawn
    code = {"version": VERSIONS["pretrained"], "images": images}
    return {"encoder": asdict(profile.encoder), "optimisation": asdict(profile.pretraining.optimisation), **code}
