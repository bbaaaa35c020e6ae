"""How far an attack on the data has come, while the encoder is trained: the curve of its card."""

from collections.abc import Callable

from torch import Tensor, nn

from distill_lib.evaluation.rates import trigger_cos
from distill_lib.vision.features import extract
from distill_lib.vision.triggers import Trigger

PROBED = 256  # images of either kind


def planting(
    encoder: nn.Module, images: Tensor, labels: Tensor, poisoned_class: int, trigger: Trigger, count: int = PROBED
) -> Callable[[], dict[str, float]]:
    """What a training may note of a backdoor on its way, as BadEncoder's own terms say it: -1 is planted.

    Args:
        encoder: The one that is trained; it is asked in eval mode and left in the mode it was in.
        images: The pre-training images before any was poisoned, uint8 (N, 3, H, W).
        labels: int64 (N,).
        poisoned_class: The class whose images carry the trigger in training.
        trigger: What test images will carry.
        count: How many images are asked about, the first of the poisoned class and the first of all others.

    Returns:
        A function of nothing -> `triggered` and `untriggered`: minus the mean cosine, at the output, of images of other
        classes, with the trigger and without, to images of the poisoned class. Nothing is drawn at random.
    """
    own = labels == poisoned_class
    bearers, others = (images[kind.nonzero().flatten()[:count]] for kind in (own, ~own))

    def measure() -> dict[str, float]:
        aim = extract(encoder, bearers)
        triggered, untriggered = extract(encoder, others, transform=trigger), extract(encoder, others)
        return {"triggered": -trigger_cos(triggered, aim), "untriggered": -trigger_cos(untriggered, aim)}

    return measure
