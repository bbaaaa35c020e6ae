"""Teachers that resist distillation, and the thieves who distil them all the same.

Three registries: `TEACHERS`, each made of a trained normal network by `defend`; `THIEVES`, each run by `steal`; and
`PRESETS`, the published settings of a data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distill_lib.errors import UsageError, choose
from distill_lib.training.loop import Watch
from distill_lib.undistillable.ast import ASTConfig, ast
from distill_lib.undistillable.guards import DefenceError
from distill_lib.undistillable.nasty import NastyConfig, nasty
from distill_lib.undistillable.presets import PRESETS, Preset
from distill_lib.undistillable.stingy import FINITE, Stingy
from distill_lib.undistillable.thieves import THIEVES, ThiefConfig, plainly, steal

__all__ = [
    "PRESETS",
    "TEACHERS",
    "THIEVES",
    "ASTConfig",
    "DefenceError",
    "NastyConfig",
    "Preset",
    "StingyConfig",
    "Teacher",
    "ThiefConfig",
    "defend",
    "plainly",
    "steal",
]


@dataclass(frozen=True)
class StingyConfig:
    """Settings of a stingy teacher, published for CIFAR-10.

    Attributes:
        keep: Logits told.
        finite: Whether the others are `FINITE` in the place of minus infinity, for data-free thieves [ours].
    """

    keep: int = 2
    finite: bool = False


def _stingy(normal: nn.Module, config: StingyConfig) -> Stingy:
    return Stingy(normal, config.keep, FINITE if config.finite else -torch.inf)


class Teacher(NamedTuple):
    """A row of the registry.

    Attributes:
        config: Its settings' class; the defaults are the published ones for CIFAR-10. None: it has none.
        train: (model, normal, images, labels, config, seed, watch) -> log; None: nothing is trained.
        wrap: Where nothing is trained: (normal, config) -> teacher.
    """

    config: type | None
    train: Callable[..., list[dict[str, float]]] | None = None
    wrap: Callable[[nn.Module, Any], nn.Module] = lambda normal, config: normal


TEACHERS: dict[str, Teacher] = {
    "normal": Teacher(None),
    "nasty": Teacher(NastyConfig, nasty),
    "stingy": Teacher(StingyConfig, wrap=_stingy),
    "ast": Teacher(ASTConfig, ast),
}


def defend(
    name: str,
    normal: nn.Module,
    config: Any = None,
    seed: int = 0,
    watch: Watch | None = None,
    *,
    model: nn.Module | None = None,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    **others: Any,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Make a teacher of a trained normal network.

    Args:
        name: In `TEACHERS`.
        normal: The trained network, left as it is; a stingy teacher shares it.
        config: Of the row's class; None: its defaults.
        seed: Of a training.
        watch: Of a training.
        model: For those that are trained: a fresh network, which becomes the teacher.
        images: Likewise: uint8 (N, 3, H, W), on the networks' device.
        labels: Likewise: int64 (N,).
        **others: Further arguments of the row's training (`adversarial=` of AST).

    Returns:
        The teacher, in eval mode, and the log of its training, empty where there is none.

    Raises:
        UsageError: If there is no such teacher, or what its training needs is missing.
        DefenceError: If the training fails.
    """
    row = choose("undistillable teacher", name, TEACHERS)
    config = row.config() if config is None and row.config else config
    if row.train is None:
        return row.wrap(normal, config).eval(), []
    if model is None or images is None or labels is None:
        raise UsageError(f"teacher {name!r} is trained; it needs a fresh model, images and labels")
    return model, row.train(model, normal, images, labels, config, seed, watch, **others)
