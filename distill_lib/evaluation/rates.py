"""The rates of the results table, from predicted classes alone."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from distill_lib.errors import UsageError


def rates(
    clean_pred: ArrayLike, triggered_pred: ArrayLike, placebo_pred: ArrayLike, labels: ArrayLike, target: int
) -> dict[str, float]:
    """Accuracy and every attack rate of one classifier on one test set, in percent.

    An ASR near 0 does not mean clean: triggered images may fall into another wrong class, or the target
    class may be lost. Hence five rates beside the accuracy:

    * `acc`: clean images given their label.
    * `asr`: triggered images that are not of the target class, given the target class.
    * `asr_all`: the same over all triggered images, those of the target class included (BadEncoder's
      definition).
    * `triggered_acc`: triggered images that are not of the target class, still given their label.
    * `placebo_asr`: as `asr`, with the placebo in the trigger's place.
    * `target_rate`: clean images that are not of the target class, given the target class.

    Args:
        clean_pred: Predicted classes of the clean images, (N,).
        triggered_pred: Of the same images with the trigger, (N,).
        placebo_pred: Of the same images with the placebo, (N,).
        labels: True classes, (N,).
        target: The attack's target class.

    Returns:
        The six rates, 0 to 100, and `n_test`, which is N.

    Raises:
        UsageError: If the set is empty, has one class only or unlabelled images, or the target is none of
            its classes.
    """
    truth = _classes(labels)
    clean, triggered, placebo = (_classes(p) for p in (clean_pred, triggered_pred, placebo_pred))
    _check(truth, target, clean, triggered, placebo)
    other = truth != target
    return {
        "acc": _percent(clean == truth),
        "asr": _percent(triggered[other] == target),
        "asr_all": _percent(triggered == target),
        "triggered_acc": _percent((triggered == truth)[other]),
        "placebo_asr": _percent(placebo[other] == target),
        "target_rate": _percent(clean[other] == target),
        "n_test": len(truth),
    }


def trigger_cos(triggered_features: Tensor, reference_features: Tensor) -> float:
    """Mean cosine of triggered images and references at the output: the attack's success without a head.

    Args:
        triggered_features: (N, D).
        reference_features: (R, D); the mean runs over all N x R pairs.

    Raises:
        UsageError: If there are no triggered images or no references.
    """
    for what, features in (
        ("triggered images", triggered_features),
        ("reference inputs", reference_features),
    ):
        if features.ndim != 2 or len(features) == 0:
            raise UsageError(f"features of {what} have shape {tuple(features.shape)}; allowed: (N, D) with N >= 1")
    # The mean over pairs of unit vectors is the product of their means.
    means = [normalize(f.double(), dim=1).mean(0) for f in (triggered_features, reference_features)]
    return float(torch.dot(*means))


def _classes(values: ArrayLike | Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _percent(hits: np.ndarray) -> float:
    return 100.0 * float(hits.mean())


def _check(truth: np.ndarray, target: int, *predictions: np.ndarray) -> None:
    if len(truth) == 0:
        raise UsageError("the test set is empty; allowed: at least one image of two classes or more")
    for predicted in predictions:
        if predicted.shape != truth.shape:
            raise UsageError(f"predictions of shape {predicted.shape} do not fit labels of shape {truth.shape}")
    present = np.unique(truth)
    if present[0] < 0:
        raise UsageError(f"the test set has the label {present[0]}; allowed: labelled images, classes from 0")
    if len(present) == 1:
        raise UsageError(f"the test set has one class only, {present[0]}; allowed: two classes or more")
    if not 0 <= target <= present[-1]:
        raise UsageError(f"target class {target} is out of range; allowed: 0 to {present[-1]}")
    if target not in present:
        raise UsageError(f"target class {target} is absent from the labels; present: {', '.join(map(str, present))}")
