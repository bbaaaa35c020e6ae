"""The `[datafree]` table: filled strictly, refused in one sentence."""

from pathlib import Path

import pytest

from distill_lib.errors import UsageError
from distill_lib.study.config import load_profile

TINY = str(Path(__file__).parents[2] / "profiles" / "tiny.toml")


def settings(**overrides):
    return load_profile(TINY, {f"datafree.{key}": value for key, value in overrides.items()}).datafree


def test_methods_are_filled_as_their_own_classes_say():
    found = settings()
    assert (found.ood.schedule.steps, found.ood.fixed, found.ood.patches.picture.size) == (4, True, 96)
    assert found.zskt.generator.channels == (8, 8)
    assert found.retrospection.few == 4
    assert found.ood.defence.sv is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("triggers", ["square"], "unknown name in datafree.triggers 'square'; allowed: badnet_grid"),
        ("triggers", [], "datafree.triggers is empty"),
        ("defences", ["magic"], "unknown name in datafree.defences 'magic'; allowed: none, sv, sr, abd"),
        ("methods", ["kd"], "unknown name in datafree.methods 'kd'; allowed: clean_kd, zskt, cmi, ood"),
        ("teacher", "resnet", "unknown datafree.teacher 'resnet'; allowed: wrn16_1"),
        ("clean", 1.5, "datafree.clean 1.5 and datafree.rate 0.1 are impossible"),
        ("target", -1, "datafree.target -1"),
        ("ood.fixed", 3, "setting 'datafree.ood.fixed' is 3 (int); allowed: bool"),
        ("ood.pictures", 3, "unknown setting 'datafree.ood.pictures'"),
        ("vaccine.alpha", 0.0, "alpha 0.0"),
    ],
)
def test_wrong_values_are_named(key, value, words):
    with pytest.raises(UsageError) as caught:
        settings(**{key: value})
    assert words in str(caught.value)


def test_other_seeds_keep_the_bridge_on_its_own():
    found = settings(seeds=[0, 1, 2], bridge_seeds=[1])
    assert (found.on((1, 2)).seeds, found.on((1, 2)).bridged) == ((1, 2), (1,))
    assert found.on((5, 6)).bridged == (5,)
    assert settings().bridged == (0,)


def test_a_profile_may_have_none():
    assert load_profile("paper").datafree is None or load_profile("paper").datafree.seeds
    text = Path(TINY).read_text()
    assert "[datafree]" in text


@pytest.mark.parametrize("value", [3, "yes"])
def test_an_optional_table_is_a_table(value):
    with pytest.raises(UsageError, match=r"setting 'datafree' is .*; allowed: DataFree or NoneType"):
        load_profile(TINY, {"datafree": value})
