"""The 1 x 1 convolution of a shortcut that skips pixels."""

from torch import Tensor, nn
from torch.nn.functional import conv2d

# oneDNN's kernel for processors without AVX-512 (torch 2.13 and 2.15) writes past its memory when a 1 x 1 convolution
# skips pixels and has 6 channels or fewer, last in memory: the process aborts, or its numbers are wrong.
SAFE = 8


class Shortcut(nn.Conv2d):
    """A 1 x 1 convolution with a stride, without a bias, that is safe for few channels on a CPU."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= SAFE or x.device.type != "cpu" or self.stride == (1, 1):
            return super().forward(x)
        rows, columns = self.stride
        return conv2d(x[..., ::rows, ::columns], self.weight)
