import json
from dataclasses import asdict, replace

import pytest

from distill_lib.defences.inversion import InversionConfig
from distill_lib.errors import UsageError
from distill_lib.evaluation.detection import threshold
from distill_lib.tools.inspect.reference import CleanScores, read_scores

SCORES = CleanScores(InversionConfig(), 1000, 100, (0.3, 0.25, 0.28))


def test_scores_come_back_as_they_were_written(tmp_path):
    SCORES.write(tmp_path / "clean.json")
    assert read_scores(tmp_path / "clean.json") == SCORES


def test_their_threshold_is_the_prediction_limit():
    assert SCORES.threshold(0.05) == threshold(SCORES.scores, 0.05)
    with pytest.raises(UsageError, match="2 clean scores"):
        replace(SCORES, scores=(0.3, 0.2)).threshold(0.05)


def test_only_encoders_inspected_alike_are_compared():
    SCORES.check_fits(InversionConfig(), 1000)
    with pytest.raises(UsageError, match="1,000 parameters, the suspect has 999"):
        SCORES.check_fits(InversionConfig(), 999)
    with pytest.raises(UsageError, match=r"steps 120, target 0\.95;"):
        SCORES.check_fits(InversionConfig(steps=7, target=0.9), 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [0.0]},
        {"scores": [float("nan")]},
        {"scores": ["x"]},
        {"inversion": {"steps": 0}},
        {"inversion": {"speed": 1}},
        {"more": 1},
        {"parameters": None},
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, change):
    path = tmp_path / "clean.json"
    path.write_text(json.dumps({**asdict(SCORES), **change}))
    with pytest.raises(UsageError, match="are no such file"):
        read_scores(path)


def test_no_file_and_no_json_are_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_scores(tmp_path / "none.json")
    (tmp_path / "text.json").write_bytes(b"\xff{")
    with pytest.raises(UsageError, match="are no such file"):
        read_scores(tmp_path / "text.json")
