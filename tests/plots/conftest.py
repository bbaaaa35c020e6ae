import numpy as np
import pandas as pd
import pytest

RECIPE = ("distillation", "finetuned", "warmup", "at")
# (stage, defence, teacher, student, loss) -> mean ACC and ASR
CELLS = {
    ("clean", "none", "", "", ""): (50, 1),
    ("attacked", "none", "", "", ""): (48, 95),
    ("defended", *RECIPE): (40, 8),
    ("defended", "distillation", "finetuned", "warmup", "kd"): (38, 9),
    ("defended", "distillation", "finetuned", "warmup", "cosine"): (44, 3),
    ("defended", "distillation", "poisoned", "warmup", "at"): (41, 80),
    ("defended", "distillation", "clean", "warmup", "at"): (43, 2),
    ("defended", "distillation", "finetuned", "copy", "at"): (45, 30),
    ("defended", "distillation", "poisoned", "random", "cosine"): (42, 90),
    ("defended", "finetune", "", "", ""): (46, 4),
    ("defended", "clean_share", "", "", ""): (33, 2),
    ("defended", "made_up", "", "", ""): (30, 20),
}


def make_table(seeds, cells=CELLS, **scope) -> pd.DataFrame:
    """A made-up distillation.csv as pandas reads it: empty cells are NaN."""
    rng = np.random.default_rng(len(list(seeds)))
    about = {"pretrain": "cifar10", "attack": "badencoder", "downstream": "gtsrb", "target": 12, **scope}
    names = ("stage", "defence", "teacher", "student", "loss")
    rows = [
        {**about, **dict(zip(names, cell, strict=True)), "seed": seed, "n_test": 10}
        | {"acc": acc + rng.normal(), "asr": asr + rng.uniform(-1, 1), "placebo_asr": 1.0}
        for cell, (acc, asr) in cells.items()
        for seed in seeds
    ]
    return pd.DataFrame(rows).replace("", np.nan)


def bench_report() -> dict:
    """A made-up results/bench/cpu.json."""
    names = ("simclr_step", "simclr_step_float32", "augmentation", "badencoder_step", "head_training", "matmul_share")
    flat = [{"images": 10**i, "microseconds": 90.0 + i, "low": 89.0, "high": 97.0, "rounds": 7} for i in (4, 5)]
    return {
        "hardware": {"cpu": "a processor", "cores": 2, "torch": "2.15"},
        "ratios": [{"name": n, "ratio": 3.0 + i, "low": 2.0, "high": 9.0, "pairs": 7} for i, n in enumerate(names)],
        "flatness": flat,
    }


def inspected() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A made-up inspect.csv and its summary."""
    kinds = [("reference", "", "", 0.30), ("clean", "", "", 0.29), ("attacked", "badencoder", "profile's", 0.08),
             ("attacked", "badencoder", "orange 8", 0.09), ("attacked", "ctrl", "profile's", 0.2),
             ("attacked", "poisoned_data", "profile's", 0.3), ("purified", "badencoder", "profile's", 0.2)]  # fmt: skip
    about = {"downstream": "shapes", "n_test": 10, "asr": 90.0}
    rows = [
        {**about, "group": group, "attack": attack, "trigger": trigger, "seed": seed, "size": size + 0.01 * seed}
        | {"defence": "finetune" if group == "purified" else "none", "planted": attack != "poisoned_data"}
        | {"held_out": attack == "ctrl" or trigger == "orange 8"}
        for group, attack, trigger, size in kinds
        for seed in range(4)
    ]
    names = {"all": 12, "held-out trigger": 4, "held-out attack": 4}
    found = {"n_clean": 4, "auc": 0.97, "low": 0.9, "high": 1.0, "threshold": 0.25, "n_reference": 4}
    found |= {"flagged_clean": 0, "false_positive_rate": 0.0, "fpr_low": 0.0, "fpr_high": 0.6}
    return pd.DataFrame(rows), pd.DataFrame([{"attacked": n, "n_attacked": k, **found} for n, k in names.items()])


def swept(table: pd.DataFrame) -> pd.DataFrame:
    """A made-up table as sweeps' rows: two settings, two values."""
    kept = table[table["defence"].isin(["none", "finetune"])]
    parts = [
        kept.assign(sweep=sweep, axis="a setting (units)", x=x, line=kept["defence"].str.replace("none", "attacked"))
        for sweep in ("trigger size", "share")
        for x in ("0.5", "2")
    ]
    return pd.concat(parts)[lambda rows: rows["stage"] != "clean"]


def priced(table: pd.DataFrame) -> pd.DataFrame:
    """A made-up table as the necessity table's rows."""
    kept = table[table["defence"].isin(["finetune", "clean_share"]) | (table["teacher"] == "clean")]
    return kept.assign(
        row=kept["defence"].replace("distillation", "recipe, clean teacher"), wall_s=1.0, peak_rss_mb=9.0
    )


def tuned(seeds) -> pd.DataFrame:
    """A made-up tuning.csv."""
    grid = [(loss, weight, 100 + seed) for loss in ("kd", "at") for weight in (1.0, 10.0) for seed in seeds]
    return pd.DataFrame([(*each, 30.0, 5.0) for each in grid], columns=["loss", "weight", "seed", "acc", "asr"])


def data_free_rows(seeds) -> pd.DataFrame:
    """A made-up datafree.csv: ACC 60 and up, ASR by variant."""
    cells = {"none": 90.0, "sv": 20.0, "sr": 70.0, "abd": 10.0}
    about = {"dataset": "builtin", "attack": "badnet_grid", "stage": "student", "method": "ood"}
    rows = [
        {**about, "defence": defence, "seed": seed, "acc": 60.0 + seed, "asr": asr + seed}
        for defence, asr in cells.items()
        for seed in seeds
    ]
    teachers = [{**about, "stage": "teacher", "method": "", "defence": "none", "seed": s, "acc": 90.0, "asr": 99.0}
                for s in seeds]  # fmt: skip
    return pd.DataFrame([*teachers, *rows])


def data_free_figures() -> dict[str, dict]:
    """Small numbers for each figure of the data-free notebook."""
    from distill_lib import plots

    rng, table = np.random.default_rng(0), data_free_rows(range(3))
    scores = {
        seed: {"clean": rng.normal(0, 1, 40), "triggered": rng.normal(-3, 1, 40), "auc": 0.9, "auc_usual": 0.7}
        for seed in (0, 1)
    }
    students = table[table["stage"] == "student"]
    curves = pd.concat([students.assign(step=step) for step in (5, 10)])
    along = [students[students["defence"] == "none"].assign(place=i, data=f"data {i} (x)") for i in range(3)]
    encoders = pd.concat([each.assign(place=i - 1, attack="badencoder") for i, each in enumerate(along)])
    teachers = table[table["stage"] == "teacher"]
    return {
        "vaccine": plots.numbers_vaccine({"badnet_grid": scores}, 0.984, 1, 5),
        "asr_over_training": plots.numbers_asr_over_training(curves),
        "bridge": plots.numbers_bridge(pd.concat(along), teachers, encoders),
        "abd": plots.numbers_abd(table, {"badnet_grid": {"ood": {"none": [79.8, 99.6], "abd": [78.2, 14.5]}}}),
    }


def undistillable_rows(seeds) -> pd.DataFrame:
    """A made-up undistillable.csv, with what a teacher's answers look like."""
    about = {"dataset": "builtin", "n_test": 10, "warm_entropy_share": 0.6, "peaks": 1.5}
    cells = [("teacher", t, "", "", 90 - i) for i, t in enumerate(("normal", "nasty", "stingy", "ast"))]
    cells += [("student", t, "cnn_small", thief, 80 - 2 * i - j) for i, (_, t, *_) in enumerate(cells)
              for j, thief in enumerate(("kd", "kd_other"))]  # fmt: skip
    cells += [("student", "", "cnn_small", thief, 78.0) for thief in ("alone", "label_smoothing")]
    names = ("stage", "teacher", "student", "thief", "acc")
    rows = [{**about, **dict(zip(names, cell, strict=True)), "seed": s} for cell in cells for s in seeds]
    return pd.DataFrame(rows).assign(acc=lambda r: r["acc"] + 0.3 * r["seed"], agreement=80.0).replace("", np.nan)


def undistillable_figures() -> dict[str, dict]:
    """Small numbers for each figure of the notebook on undistillable teachers."""
    from distill_lib import plots

    rng, table = np.random.default_rng(0), undistillable_rows(range(3))
    labels, names = np.repeat(np.arange(10), 4), [f"class {i}" for i in range(10)]
    told = {t: np.eye(10)[labels] * 5 + rng.normal(0, 1, (40, 10)) for t in ("normal", "nasty", "stingy", "ast")}
    told["stingy"][:, 3:] = -np.inf
    taught, kd = table[table["stage"] == "teacher"], table[table["thief"] == "kd"]
    sweep = pd.concat([kd.assign(alpha=a, temperature=t) for a in (0.5, 0.9) for t in (1.0, 4.0, 20.0)])
    variants = [taught.assign(variant=v, student_acc=70.0) for v in ("normal", "ast", "kl", "dense", "clean", "paired")]
    variants = [each[each["teacher"] == "ast"] for each in variants]
    return {
        "answers": plots.numbers_answers({t: each[0] for t, each in told.items()}, names, 0),
        "peaks": plots.numbers_peaks(taught),
        "spaces": plots.numbers_spaces({t: rng.normal(0, 1, (40, 6)) for t in told}, told, labels, names),
        "stolen": plots.numbers_stolen(table),
        "temperatures": plots.numbers_temperatures(sweep, table[table["thief"] == "alone"]),
        "ablation": plots.numbers_ablation(pd.concat(variants)),
        "trade": plots.numbers_trade(table),
    }


def purified_figures(images) -> dict[str, dict]:
    """Small numbers for the figures of a repaired encoder."""
    from distill_lib import plots

    cosines = {when: {"clean": 0.2, "triggered": 0.7} for when in ("before", "after")}
    triggers = {f"large square number {n}, anywhere": cosines for n in range(12)}
    maps = {when: [np.random.default_rng(n).random((2, 4, 4)) for n in range(4)] for when in ("before", "after")}
    return {
        "sensitivity": plots.numbers_sensitivity(triggers, 64),
        "attention": plots.numbers_attention(images, maps, "a large square"),
    }


def explorer_figures() -> dict[str, dict]:
    """Small numbers for the figures of the explorer's notebook."""
    from distill_lib import plots

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    view = {
        "image": image, "prediction": "a long class name", "kept": 0.5, "points": rng.normal(0, 1, (40, 2)),
        "position": (0.0, 1.0), "origin": (1.0, 0.0), "shares": {f"stage{n}": 12.0 for n in range(1, 5)},
        "attention": {f"stage{n}": rng.random((2, 2)) for n in range(1, 5)}, "neighbours": [(image, "other class")] * 3,
    }  # fmt: skip
    names, place = ("clean", "attacked", "finetuned / warmup / at"), [1, 11, 21]
    labels, about = np.arange(40) < 9, "badencoder, patterns, seed 0"
    grids = {"rows": place, "columns": place, "shares": {name: 100 * rng.random((3, 3)) for name in names}, "n": 60}
    return {
        "explore": plots.numbers_explore(dict.fromkeys(names, view), (21, 21, 10), "cat", "dog", labels, about),
        "places": plots.numbers_places(grids, (21, 21, 10), 32, "dog", about=about),
    }


@pytest.fixture(scope="session")
def few() -> pd.DataFrame:
    """Two seeds."""
    return make_table(range(2))


@pytest.fixture(scope="session")
def many() -> pd.DataFrame:
    """Four seeds of one attack, two of another."""
    return pd.concat([make_table(range(4)), make_table(range(2), attack="ctrl", downstream="svhn", target=1)])


@pytest.fixture(scope="session")
def every_figure(many) -> dict[str, dict]:
    """Small numbers for each figure of the registry."""
    from distill_lib import plots

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    stamped = images.copy()
    stamped[:, :, 5:7, 5:7] = 255
    log = [{"step": s, "lr": 0.1, "L0": -s / 10, "L1": -0.9, "L2": -0.95} for s in range(1, 6)]
    labels = np.repeat([0, 1, 2], 12)
    features = np.eye(5)[labels] + rng.normal(0, 0.1, (36, 5))
    panel = {"clean": features, "labels": labels, "triggered": features[:8], "reference": features[12:13]}
    return {
        "trigger": plots.numbers_trigger(images, stamped, images[:, :, ::-1], ["cat", "dog"]),
        "injection": plots.numbers_injection({"shapes": {0: log, 1: log}}),
        "tsne": plots.numbers_tsne({"clean": panel, "attacked": panel}, 1, {0: "a", 1: "b", 2: "c"}),
        "acc_asr": plots.numbers_acc_asr(many),
        "teachers": plots.numbers_teachers(many),
        "students": plots.numbers_students(many),
        "losses": plots.numbers_losses(many),
        "strength": plots.numbers_strength(tuned(range(2)), {"kd": 1.0}, {"at": 10.0}),
        "headline": plots.numbers_headline(many),
        "necessity": plots.numbers_necessity(priced(many)),
        "harm": plots.numbers_harm(swept(many)),
        "robustness": plots.numbers_robustness(swept(many)),
        "bench": plots.numbers_bench(bench_report()),
        "roc_inspect": plots.numbers_roc_inspect(*inspected()),
        "label_triggers": plots.numbers_label_triggers(images[0], *2 * [{"sq": stamped[0], "cl": stamped[0]}], "cat"),
        "synthetic": plots.numbers_synthetic({"patches": images, "turn 3": stamped}, "Made up."),
        **purified_figures(images),
        **data_free_figures(),
        **undistillable_figures(),
        **explorer_figures(),
    }
