"""A set whose classes are greys, and an encoder that reads them: what every rate has to be is known beforehand."""

import torch
from torch import nn
from torch.nn.functional import one_hot

from distill_lib.data import ImageSet

CLASSES, STEP = 10, 20  # class k has the grey 20 k: no image is white, none is blue
TARGET = 0


def greys(split, of_each, name="greys"):
    """So many images of each class, one class after the other."""
    labels = torch.arange(CLASSES).repeat_interleave(of_each)
    images = (labels * STEP).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
    return ImageSet(name, split, images, labels, tuple(map(str, range(CLASSES))), "archive")


def white_corner(images):
    """Whether BadEncoder's trigger is on an image of [0, 1]."""
    return (images[:, :, 25, 25] == 1).all(1)


def blue_corner(images):
    """Whether its placebo is."""
    return (images[:, 2, 5, 5] == 1) & (images[:, 0, 5, 5] == 0)


class Reader(nn.Module):
    """One-hot features of the class that a pixel off all triggers tells; a mark makes any image the target's."""

    def __init__(self, mark=white_corner):
        super().__init__()
        self.weight, self.mark = nn.Parameter(torch.zeros(1)), mark

    def forward(self, images):
        classes = (images[:, 0, 0, -1] * 255 / STEP).round().long()
        return one_hot(torch.where(self.mark(images), TARGET, classes), CLASSES).float()
