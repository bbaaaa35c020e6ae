"""NAD, neural attention distillation (Li et al., ICLR 2021), carried over to encoders.

Published, for classifiers: the teacher is the poisoned network fine-tuned on 5 % clean data, the student the poisoned
network itself; cross-entropy plus AT at weights 500, 1000, 1000. What an encoder changes [ours]: NT-Xent stands where
the cross-entropy needs labels; the weights go to the last three of four stages, as published networks have three;
optimiser and length are the study's own, so that all defences are compared at equal views.
"""

from dataclasses import replace

from distill_lib.distillation.distil import DistilConfig
from distill_lib.training.loop import Schedule

LOSS = "at:nad"


def nad_config(schedule: Schedule, **others) -> DistilConfig:
    """Settings of `distil` that make it NAD: AT at 500, 1000, 1000 on stages 2 to 4 beside NT-Xent at weight 1.

    The student is the poisoned encoder itself, the teacher the same one after `finetune` on the clean share.

    Args:
        schedule: Of the distillation; the teacher's fine-tuning comes before it.
        **others: Further fields of `DistilConfig`.
    """
    return replace(DistilConfig(schedule), loss=LOSS, **others)
