"""NAD, neural attention distillation (Li et al., ICLR 2021), carried over to encoders.

Published, for classifiers: the teacher is the poisoned network fine-tuned on 5 % clean data, the student the poisoned
network itself; cross-entropy plus AT at weights 500, 1000, 1000. What an encoder changes [ours]: NT-Xent stands where
the cross-entropy needs labels; the weights go to the last three of four stages, as published networks have three;
optimiser and length are the study's own, so that all defences are compared at equal views.
"""

from dataclasses import replace

from torch import Tensor, nn

from distill_lib.distillation.distil import DistilConfig, distil
from distill_lib.training.loop import Schedule, Watch

LOSS = "at:nad"


def nad_config(schedule: Schedule, **others) -> DistilConfig:
    """Settings of NAD: AT at 500, 1000, 1000 on stages 2 to 4 beside NT-Xent at weight 1.

    Args:
        schedule: Of the distillation; the teacher's fine-tuning comes before it.
        **others: Further fields of `DistilConfig`.
    """
    return replace(DistilConfig(schedule), loss=LOSS, **others)


def nad(
    encoder: nn.Module,
    teacher: nn.Module,
    share: Tensor,
    config: DistilConfig,
    seed: int,
    watch: Watch | None = None,
) -> list[dict[str, float]]:
    """Distil the fine-tuned teacher back into the poisoned encoder, in place.

    Args:
        encoder: The poisoned encoder, which is the student.
        teacher: The same encoder after `finetune` on the clean share.
        share: The defender's clean images, uint8 (N, 3, H, W), on the encoders' device.
        config: From `nad_config`.
        seed: Of projector, order and augmentation.
        watch: Reports and checkpoints.

    Returns:
        The log, with the terms `at` and `nt_xent`.
    """
    return distil(teacher, encoder, share, config, seed, watch)
