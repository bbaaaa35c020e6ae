"""The notebooks of a run: what each must draw, needs and reads, and which study it belongs to."""

# Notebook -> the figures that it must make.
NOTEBOOKS = {
    "01_attack": ("trigger", "injection"),
    "02_teacher": ("teachers",),
    "03_student": ("students",),
    "04_loss": ("losses", "strength"),
    "05_analysis": ("tsne", "acc_asr", "headline", "necessity"),
    "06_robustness": ("robustness",),
    "07_data_free": ("label_triggers", "synthetic", "vaccine", "asr_over_training", "bridge", "abd"),
    "08_undistillable": ("answers", "peaks", "spaces", "stolen", "temperatures", "ablation", "trade"),
    "09_explore": ("explore", "places"),
}
# What a notebook needs besides the store: the analysis reads the tables of all before it, and the explorer makes no
# encoder.
NEEDS = {
    "05_analysis": ("01_attack", "02_teacher", "03_student", "04_loss"),
    "06_robustness": ("01_attack",),
    "09_explore": ("01_attack", "02_teacher", "03_student"),
}
SWEPT = "06_robustness"  # the notebook that reads the profile's sweeps
DATA_FREE, UNDISTILLABLE = "07_data_free", "08_undistillable"
# Notebooks that read a table of their own in the profile, and run on its seeds; they need not be in every profile.
OWN = {DATA_FREE: "datafree", UNDISTILLABLE: "undistillable"}
FIRST = "distillation"  # the study that all others belong to


def study_of(notebook: str) -> str:
    """The study whose rows a notebook makes, by the name of its table."""
    return OWN.get(notebook, FIRST)
