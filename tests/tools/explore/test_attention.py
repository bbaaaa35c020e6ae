"""Shares of attention against values worked out by hand."""

import pytest
import torch

from distill_lib.tools.explore.attention import attention_maps, covered, share_inside
from distill_lib.vision.triggers import Patch


def test_maps_are_sums_of_squares_with_sum_one():
    maps = torch.tensor([[[[1.0, 2.0]], [[-3.0, 0.0]]]])  # one image, two channels, 1 x 2
    torch.testing.assert_close(attention_maps(maps), torch.tensor([[[10 / 14, 4 / 14]]]))


def test_a_dead_map_has_no_attention():
    found = attention_maps(torch.zeros(1, 3, 2, 2))
    assert float(found.sum()) == 0
    assert float(share_inside(found, Patch(), 32)) == 0


def test_cells_count_by_the_part_inside():
    assert covered(21, 10, 2, 32).tolist() == [0, 10 / 16]
    assert covered(3, 6, 4, 32).tolist() == [5 / 8, 1 / 8, 0, 0]
    assert covered(0, 32, 4, 32).tolist() == [1, 1, 1, 1]


def test_a_share_by_hand():
    shares = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[1.0, 0.0], [0.0, 0.0]]])
    # The default square covers 10 of the lower right cell's 16 pixels, along either side.
    expected = [100 * 0.4 * (10 / 16) ** 2, 0.0]
    assert share_inside(shares, Patch(), 32).tolist() == pytest.approx(expected)
    # Rows 12 to 19 lie half in the upper cells, columns 0 to 7 are half of the left ones.
    left = Patch(8, row=12, column=0)
    assert share_inside(shares, left, 32).tolist() == pytest.approx([100 * (0.1 + 0.3) / 8, 100 / 8])


def test_an_even_look_has_the_squares_share_of_the_area():
    shares = torch.full((1, 8, 8), 1 / 64)
    assert float(share_inside(shares, Patch(7, 3, 20), 32)) == pytest.approx(100 * 49 / 32**2)
