"""A profile from its TOML file."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from distill_lib.errors import UsageError, choose
from distill_lib.study.config.fill import fill, with_value
from distill_lib.study.config.profile import Profile
from distill_lib.study.config.sweep import Sweep

PROFILES = ("quick", "laptop", "gpu", "paper")


def load_profile(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """Read a profile.

    Args:
        name: One of `PROFILES`, or the path of a TOML file.
        overrides: Values by dotted key, such as {"defender.share": 0.01}.

    Raises:
        UsageError: For an unknown profile, an unknown key, a wrong type or an impossible value.
    """
    path = Path(name)
    if name in PROFILES:
        text = resources.files("distill_lib.study").joinpath(f"profiles/{name}.toml").read_text(encoding="utf-8")
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise UsageError(f"unknown profile {name!r}; allowed: {', '.join(PROFILES)}, or a .toml file")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile {name!r} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        values = with_value(values, key.split("."), value)
    profile = fill(Profile, values)
    if name not in PROFILES and (profile.name in PROFILES or not re.fullmatch(r"\w[\w-]*", profile.name)):
        raise UsageError(
            f"the profile in {name!r} is named {profile.name!r}, but its results need a folder of their own; "
            f"allowed: letters, digits, _ and -, and none of {', '.join(PROFILES)}"
        )
    if profile.attack in profile.further:
        raise UsageError(f"further names the main attack, {profile.attack!r}; allowed: others")
    for sweep in profile.sweeps:
        _check(profile, sweep)
    for recipe in profile.recipes:
        profile.varied(recipe.settings)
    return profile


def _check(profile: Profile, sweep: Sweep) -> None:
    """UsageError, with the sweep's name, if one of its points is no profile or its attack is not in this one."""
    choose(f"attack of sweep {sweep.name!r}", sweep.attack or profile.attack, {profile.attack: None, **profile.further})
    try:
        for point in sweep.points():
            profile.varied(point)
    except UsageError as error:
        raise UsageError(f"sweep {sweep.name!r}: {error}") from None
