"""What a student starts from, beside random, warmed-up and copied weights."""

from torch import nn

from distill_lib.vision.encoders import STAGES


def reinitialise(student: nn.Module, fresh: nn.Module, stages: int) -> None:
    """Give the last stages of `student` the weights and statistics of `fresh`, in place.

    A backdoor is said to sit in the late stages: a copy of the suspicious encoder without them keeps what is general.

    Args:
        student: An encoder.
        fresh: Another one of its kind, with random weights.
        stages: How many, 0 to 4; 0 changes nothing.
    """
    for name in STAGES[len(STAGES) - stages :]:
        student.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
