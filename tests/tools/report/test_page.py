"""The report on a made-up repository, and on the results that are committed."""

import itertools
import re
import shutil
from pathlib import Path

import pytest

from distill_lib.study import main_job
from distill_lib.tools.report.page import build

REPOSITORY = Path(__file__).parents[3]
HOSTILE = '"><img src=x onerror=alert(1)></td><script>alert(2)</script>'


def test_every_figure_is_embedded_with_its_words(made):
    page = made.build()
    images = {each["alt"]: each for each in page.all("img")}
    assert set(images) == {
        *(f"{name}: 12.5 % & more." for name in ("trigger", "injection", "headline", "acc_asr")),
        "A few red pixels.",
    }
    assert len(page.all("img")) == 6
    for image in images.values():
        assert image["src"].startswith("data:image/png;base64,iVBOR")
        assert (image["width"], image["height"]) == ("4", "3")
    assert "What the attacker adds" in page.text
    assert "Further figures" in page.text  # one that no notebook makes


def test_tables_hold_the_means_of_the_reported_seeds(made):
    text = made.build().text
    assert "clean encoder 62.2 3.0 3.5 21.2 1.5 2 0, 1" in text  # 61.25 and 63.25; an even digit wins
    assert "attacked 59.2 98.0" in text
    assert "fine-tuned 59.1 40.0 3.5 21.2 1.5 1 0" in text
    assert "distilled: fine-tuned, warm-up, AT 50.0 12.4" in text
    assert "99.0" not in text  # the exploration seed


def test_verdicts_say_claim_verdict_and_n(made):
    text = made.build().text
    assert "Distillation beats fine-tuning alone at equal total views. undecided (n = 1)" in text
    assert "Fewer than 6 seeds decide nothing" in text
    assert "Were the attacks planted?" in text


def test_links_lead_somewhere(made):
    page = made.build()
    targets = [each["href"] for each in page.all("a")]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert len(ids) == sum("id" in attributes for _, attributes in page.tags)
    assert {"notebooks/01_attack.html", "trigger.svg", "trigger.json"} <= set(targets)
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert (made.figures / target).resolve().is_file(), target


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(made):
    page = made.build()
    notebook = made.page(made.figures / "notebooks" / "01_attack.html")
    for each in (page, notebook):
        assert "script" not in {name for name, _ in each.tags}
        loaded = [a[k] for name, a in each.tags for k in ("src", "href", "srcset") if k in a and name != "a"]
        assert all(address.startswith("data:") for address in loaded)
        assert not re.search(r"@import|url\((?!data:)", each.source)
        assert not re.search(r'(src|href)="(https?:)?//', each.source)
        assert any("default-src 'none'" in a.get("content", "") for a in each.all("meta"))


def test_a_page_for_every_reader(made):
    page = made.build()
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("meta")[2] == {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert [name for name, _ in page.tags if name in ("h1", "main", "header")] == ["header", "h1", "main"]
    assert page.all("a")[0]["href"] == "#main"
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    assert "prefers-color-scheme: dark" in page.source
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_hostile_words_stay_words(made):
    made.draw("trigger", alt=HOSTILE)
    row = made.rows[0].replace("shapes", f'"{HOSTILE.replace(chr(34), 2 * chr(34))}"')
    made.table(row, row.replace(",clean,", ",attacked,"))
    page = made.build()
    assert not page.all("script")
    assert all("onerror" not in image for image in page.all("img"))
    assert HOSTILE in [image["alt"] for image in page.all("img")]
    assert HOSTILE in page.text


def test_what_is_missing_is_said_with_the_command(made):
    text = made.build().text
    assert "figures: teachers, students" in text
    assert "executed notebooks (they have not run here): 02_teacher, 03_student" in text
    assert "./run_all.sh --profile" in text
    assert "--only 02_teacher,03_student" in text


def test_without_any_result_the_page_says_so(bare):
    text = bare.build().text
    assert "There are no results of this profile yet" in text
    assert "there is no distillation.csv" in text
    assert "there is no results/tiny/manifest.json" in text


@pytest.mark.parametrize("content", [b"", b"not,a\ntable,at all\n", b"\xff\xfe\x00", b"seed,acc\nx,y\n"])
def test_a_broken_table_is_said_and_loses_nothing_else(made, content):
    (made.results / "distillation.csv").write_bytes(content)
    page = made.build()
    assert "the tables of distillation.csv: it cannot be read" in page.text
    assert len(page.all("img")) == 6


def test_a_broken_figure_is_missing(made):
    (made.figures / "trigger.png").write_bytes(b"GIF89a")
    (made.figures / "injection.json").write_text("{")
    page = made.build()
    assert "figures: trigger, injection, teachers" in page.text
    assert len(page.all("img")) == 4


def test_a_broken_notebook_is_said(made):
    made.execute("02_teacher", "bbbb", {"cells": "none"})
    assert "the page of 02_teacher: 02_teacher.ipynb cannot be shown" in made.build().text


def test_a_second_report_changes_no_byte(made):
    made.build()
    before = {path: path.stat().st_mtime_ns for path in made.figures.rglob("*") if path.is_file()}
    made.build()
    assert {path: path.stat().st_mtime_ns for path in made.figures.rglob("*") if path.is_file()} == before


def test_how_it_was_made_is_there(made):
    text = made.build().text
    assert "01_attack 1 min 15 s 612 MB aaaa" in text
    assert "builtin/train builtin 10000 16 e767aafd409d4dab" in text
    assert "revision 0123abcd and changes" in text
    assert "gpus none" in text
    assert "distillation.csv (7 rows)" in text
    assert '"attack": "badencoder"' in text


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_the_committed_results_are_all_there(bare, profile):
    for kind in ("figures", "results"):
        shutil.copytree(REPOSITORY / kind / profile, bare.root / kind / profile)
    page = bare.page(build(bare.root, main_job.load(profile), bare.runs))
    names = {path.stem for path in (REPOSITORY / "figures" / profile).glob("*.json")}
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {f"figure-{name}" for name in names} <= ids
    assert "cannot be read" not in page.text
    assert "undecided" in page.text
