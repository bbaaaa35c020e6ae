"""The registries: every method under every defence, by name."""

import pytest

from distill_lib.datafree import DEFENCES, METHODS, defended
from distill_lib.datafree.clean_kd import CleanKDConfig
from distill_lib.datafree.cmi import CMIConfig
from distill_lib.datafree.generator import GeneratorConfig
from distill_lib.datafree.ood import OODConfig
from distill_lib.datafree.picture import PatchConfig, PictureConfig
from distill_lib.datafree.retrospection import RetrospectionConfig
from distill_lib.datafree.vaccine import OFF, VaccineConfig
from distill_lib.datafree.zskt import ZSKTConfig
from distill_lib.errors import UsageError
from distill_lib.training.loop import Schedule

UNIT = GeneratorConfig(6, (8, 4), output="unit")
SMALL = {
    "clean_kd": CleanKDConfig(Schedule(3, 8)),
    "zskt": ZSKTConfig(3, 8, 1, generator=GeneratorConfig(6, (8, 4))),
    "cmi": CMIConfig(3, 3, 16, 1, 4, projection=(8, 8), negatives=4, generator=UNIT),
    "ood": OODConfig(Schedule(3, 8), PatchConfig(32, picture=PictureConfig(128, 600))),
}
PARTS = {"sv": VaccineConfig(acceptance=False, start=0.0, weight=5.0), "sr": RetrospectionConfig(share=0.4, steps=1)}


def test_the_names_are_the_studys():
    assert list(METHODS) == ["clean_kd", "zskt", "cmi", "ood"]
    assert list(DEFENCES) == ["none", "sv", "sr", "abd"]
    assert all(isinstance(METHODS[name].config(), METHODS[name].config) for name in METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_defence_plugs_into_every_method(teacher, fresh_student, same, clean, name):
    method = METHODS[name]
    data = {each: clean[each] for each in method.needs}
    ends = []
    for defence in DEFENCES:
        student = fresh_student()
        log = method.run(teacher, student, defended(SMALL[name], defence, **PARTS), 0, None, **data)
        assert log[-1]["step"] > 0
        ends.append(student)
    pairs = [(one, two) for i, one in enumerate(ends) for two in ends[:i]]
    assert not any(same(one, two) for one, two in pairs)


@pytest.mark.parametrize("name", METHODS)
def test_a_vaccine_that_is_refused_leaves_the_method_bit_for_bit(teacher, fresh_student, same, clean, name):
    method, refused = METHODS[name], VaccineConfig(outliers=1.0, start=0.0)
    data = {each: clean[each] for each in method.needs}
    plain, guarded = fresh_student(), fresh_student()
    method.run(teacher, plain, defended(SMALL[name], "none"), 0, None, **data)
    log = method.run(teacher, guarded, defended(SMALL[name], "sv", sv=refused), 0, None, **data)
    assert log[-1]["vaccine"] == OFF
    assert same(plain, guarded)


def test_defended_puts_settings_where_a_part_is_on():
    assert defended(SMALL["zskt"], "sv", **PARTS).defence.sv is PARTS["sv"]
    assert defended(SMALL["zskt"], "sv", **PARTS).defence.sr is None
    assert defended(SMALL["zskt"], "none", **PARTS) == SMALL["zskt"]
    assert defended(SMALL["ood"], "abd").defence == DEFENCES["abd"]
    with pytest.raises(UsageError, match="unknown defence 'both'; allowed: none, sv, sr, abd"):
        defended(SMALL["zskt"], "both")
