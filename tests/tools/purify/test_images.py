import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from distill_lib.errors import UsageError
from distill_lib.tools.purify import images
from distill_lib.tools.purify.images import read_folder, unreadable_words


def bomb(path):
    """A png of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    header = struct.pack(">LLBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_images_of_any_size_become_squares(folder):
    found = read_folder(folder, 32, 0)
    assert (found.images.shape, found.images.dtype) == ((20, 3, 32, 32), torch.uint8)
    assert (found.unreadable, found.left_out, unreadable_words(found)) == ((), 0, "")
    assert found.sha256 == read_folder(folder, 32, 1).sha256
    assert found.images.is_contiguous()


def test_the_middle_is_cut_out_and_folders_inside_are_read(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = (10, 20, 30)
    for number in range(16):
        Image.fromarray(wide).save(tmp_path / "a" / "b" / f"{number}.PNG")
    found = read_folder(tmp_path, 16, 0).images
    assert found.shape == (16, 3, 16, 16)
    assert found[0, :, 8, 8].tolist() == [10, 20, 30]


def test_grey_and_transparent_images_are_read(tmp_path):
    for number, mode in enumerate(["L", "RGBA", "P", "1"] * 4):
        Image.new(mode, (20, 20), 1).save(tmp_path / f"{number}.png")
    assert read_folder(tmp_path, 16, 0).images.shape == (16, 3, 16, 16)


def test_a_strip_is_not_blown_up(tmp_path, write_images):
    write_images(tmp_path, 16)
    Image.new("RGB", (1, 50_000)).save(tmp_path / "strip.png")
    assert len(read_folder(tmp_path, 1024, 0).images) == 17


def test_what_is_no_image_is_counted_and_named(tmp_path, write_images):
    write_images(tmp_path, 16)
    bomb(tmp_path / "bomb.png")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.png").write_bytes((tmp_path / "000.png").read_bytes()[:60])
    Image.new("RGB", (20, 20)).save(tmp_path / "gif.png", format="gif")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / "up").symlink_to(tmp_path)
    found = read_folder(tmp_path, 32, 0)
    assert len(found.images) == 16
    names = ("bomb.png", "circle.png", "cut.png", "gif.png", "pipe.png", "text.jpg")
    assert found.unreadable == names
    assert unreadable_words(found) == f"6 files are no readable images ({', '.join(map(repr, names[:5]))}, ...)"


@pytest.mark.parametrize("count", [0, 15])
def test_too_few_images_are_refused(count, tmp_path, write_images):
    write_images(tmp_path, count)
    (tmp_path / "text.jpg").write_text("hello")
    words = rf"has {count} readable images \('text.jpg'\); allowed: 16 or more, .png, .jpg, .jpeg"
    with pytest.raises(UsageError, match=words):
        read_folder(tmp_path, 32, 0)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(UsageError, match="nosuch' is not a folder; allowed: one with 16 images or more"):
        read_folder(tmp_path / "nosuch", 32, 0)


def test_memory_has_an_end(folder, monkeypatch):
    monkeypatch.setattr(images, "MOST_BYTES", 17 * 3 * 32 * 32)
    found = read_folder(folder, 32, 0)
    assert (len(found.images), found.left_out) == (17, 3)
    assert unreadable_words(found) == "3 files were left out, to save memory"
    assert found.sha256 != read_folder(folder, 32, 1).sha256


def test_no_image_is_on_both_sides(folder):
    found = read_folder(folder, 32, 0)
    training, held = found.split(3)
    assert (len(training), len(held)) == (16, 4)
    seen = torch.cat([training, held]).flatten(1).unique(dim=0)
    assert len(seen) == len(found.images.flatten(1).unique(dim=0))
    assert torch.equal(held, found.split(3)[1])
    assert not torch.equal(held, found.split(4)[1])


def test_progress_is_told(folder):
    told = []
    read_folder(folder, 32, 0, lambda done, files: told.append((done, files)))
    assert told[0] == (1, 20)
    assert told[-1] == (20, 20)
