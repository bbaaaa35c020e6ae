"""Image sets behind one door: made here, read from npz archives, or from torchvision."""

import re
from pathlib import Path

from distill_lib.data.archives import FILES, has_archives, read_archive
from distill_lib.data.builtin import BUILDERS, make_builtin
from distill_lib.data.imageset import ImageSet
from distill_lib.data.splits import clean_share, holdout
from distill_lib.data.torchvision_sets import RECIPES, read_torchvision
from distill_lib.errors import UsageError, choose

NAMES: tuple[str, ...] = (*BUILDERS, *RECIPES)

__all__ = ["NAMES", "ImageSet", "clean_share", "holdout", "load"]


def load(
    name: str,
    split: str = "train",
    *,
    data_dir: Path | None = None,
    download: bool = True,
    cache_dir: Path | None = None,
) -> ImageSet:
    """Load one split of a data set.

    The built-in sets are made here. Any other name is looked up under `data_dir` first, as
    `<data_dir>/<name>/{train,test,unlabeled}.npz`, and then among torchvision's data sets.

    Args:
        name: One of `NAMES`, or any folder of archives in `data_dir`.
        split: "train", "test", or "unlabelled" where the set has one (stl10).
        data_dir: Folder of archives; torchvision's files are kept there too.
        download: Whether torchvision may use the network.
        cache_dir: Where made images are kept; without `data_dir` torchvision's files as well (else `./data`).

    Raises:
        UsageError: If the name, the split, the folder or a file is wrong, or there is no network.
    """
    split = "unlabelled" if split == "unlabeled" else split
    choose("split", split, FILES)
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UsageError(f"the data folder {data_dir} does not exist; create it or name another")
    if name in BUILDERS:
        return make_builtin(name, split, None if cache_dir is None else Path(cache_dir))
    if data_dir is not None and re.fullmatch(r"\w[\w.-]*", name) and has_archives(Path(data_dir), name):
        return read_archive(Path(data_dir), name, split)
    if name in RECIPES:
        return read_torchvision(name, split, Path(data_dir or cache_dir or "data"), download)
    where = "" if data_dir is None else f" (there is no {Path(data_dir) / name} with train.npz and test.npz)"
    raise UsageError(
        f"unknown data set {name!r}{where}; allowed: {', '.join(NAMES)}, or a folder of archives in --data-dir"
    )
