"""The report of a profile: what its results, figures and executed notebooks say, on one page."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_lib.plots import files
from distill_lib.study import progress
from distill_lib.study.display import duration
from distill_lib.study.main_job import MainJob
from distill_lib.study.notebooks import OWN
from distill_lib.tools.report import notebooks, tables
from distill_lib.tools.report.figures import Picture, names, picture
from distill_lib.tools.report.tables import Table
from distill_lib.tools.report.templates import render

MAIN, HEADLINE = "distillation", "headline"
# Study -> its heading, and what is shown of its result table besides the verdicts.
STUDIES: dict[str, tuple[str, tuple[tables.Build, ...]]] = {
    MAIN: ("The backdoor and its cure", (tables.accepted, tables.encoders)),
    "datafree": ("Without data", (tables.without_data,)),
    "undistillable": ("Teachers that cannot be copied", (tables.thieves,)),
}


@dataclass(frozen=True)
class Chapter:
    """A notebook's part: `page` is its file beside the report, empty where it has not been executed here."""

    stem: str
    title: str
    question: str
    page: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Study:
    """One of the three studies: its verdicts, its other tables, its notebooks."""

    name: str
    heading: str
    verdicts: list[Table]
    tables: list[Table]
    chapters: list[Chapter]


@dataclass
class Missing:
    """What is not there: figures, executed notebooks, the rest in sentences, and the notebooks that make it."""

    figures: list[str] = field(default_factory=list)
    notebooks: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    stems: set[str] = field(default_factory=set)

    @property
    def sentences(self) -> list[str]:
        """One a kind, and the rest."""
        figures = [f"figures: {', '.join(self.figures)}"] if self.figures else []
        pages = [f"executed notebooks (they have not run here): {', '.join(self.notebooks)}"] if self.notebooks else []
        return [*figures, *pages, *self.rest]


def build(root: Path, job: MainJob, runs: Path) -> Path:
    """Write a profile's report.

    Args:
        root: The repository.
        job: The profile with its notebooks.
        runs: The store, which has the executed notebooks.

    Returns:
        The page, `figures/<profile>/index.html`; the notebooks' pages are in `notebooks/` beside it.
    """
    folder, results = root / "figures" / job.name, root / "results" / job.name
    folder.mkdir(parents=True, exist_ok=True)
    missing = Missing()
    manifest = progress.read(results / "manifest.json") or {}
    pages = _notebook_pages(root, job, runs, manifest, missing)
    chapters = [_chapter(root, folder, entry, pages, missing) for entry in job.notebooks]
    studies = [_study(name, results, chapters, missing) for name in STUDIES if _has(job, name)]
    if not manifest:
        missing.rest.append(f"how the results were made: there is no results/{job.name}/manifest.json")
    text = render(
        "page.html.j2",
        profile=job.name,
        summary=job.profile.summary,
        headline=_headline(job, results),
        lead=picture(folder, HEADLINE),
        least_seeds=tables.least_seeds(),
        decided=tables.decided(table for study in studies for table in study.verdicts),
        studies=studies,
        others=_others(folder, chapters),
        csv=_csv(results),
        manifest=_manifest(manifest),
        configuration=json.dumps(manifest.get("configuration", {}), indent=1, ensure_ascii=False),
        missing=missing.sentences,
        command=_command(job, missing.stems),
    )
    files.write_if_changed(folder / "index.html", text.encode())
    return folder / "index.html"


def _has(job: MainJob, study: str) -> bool:
    return study == MAIN or getattr(job.profile, study) is not None


def _notebook_pages(root: Path, job: MainJob, runs: Path, manifest: dict, missing: Missing) -> dict[str, str]:
    """Write the executed notebooks' pages: stem -> file beside the report."""
    keys = {name: made.get("key", "") for name, made in manifest.get("jobs", {}).items()}
    found, folder, pages = notebooks.executed(runs, job.source, keys), root / "figures" / job.name, {}
    for stem in (entry.notebook for entry in job.notebooks):
        if stem not in found:
            missing.notebooks.append(stem)
            missing.stems.add(stem)
            continue
        title, page = notebooks.about(root / "notebooks" / f"{stem}.ipynb").title, f"notebooks/{stem}.html"
        try:
            notebooks.write_page(found[stem], folder / page, folder, f"{title} ({job.name})")
            pages[stem] = page
        except (OSError, ValueError) as error:
            missing.rest.append(f"the page of {stem}: {found[stem].name} cannot be shown ({error})")
            missing.stems.add(stem)
    return pages


def _chapter(root: Path, folder: Path, entry: Any, pages: dict[str, str], missing: Missing) -> Chapter:
    """A notebook with the figures that it makes, in its order; the headline stands at the top of the page."""
    about, pictures = notebooks.about(root / "notebooks" / f"{entry.notebook}.ipynb"), []
    for name in dict.fromkeys(Path(path).stem for path in entry.makes):
        found = picture(folder, name)
        if found is None:
            missing.figures.append(name)
            missing.stems.add(entry.notebook)
        elif name != HEADLINE:
            pictures.append(found)
    return Chapter(entry.notebook, about.title, about.question, pages.get(entry.notebook, ""), tuple(pictures))


def _study(name: str, results: Path, chapters: list[Chapter], missing: Missing) -> Study:
    heading, others = STUDIES[name]
    own = [chapter for chapter in chapters if OWN.get(chapter.stem, MAIN) == name]
    path, shown = results / f"{name}.csv", ([], [])
    if path.is_file():
        try:
            shown = _made(path, [tables.VERDICTS[name]]), _made(path, others)
        except (ValueError, KeyError, TypeError) as error:
            missing.rest.append(f"the tables of {path.name}: it cannot be read ({error})")
    else:
        missing.rest.append(f"the results of {heading!r}: there is no {path.name}")
        missing.stems |= {chapter.stem for chapter in own}
    return Study(name, heading, *shown, own)


def _made(path: Path, builds: Iterable[tables.Build]) -> list[Table]:
    rows = tables.read(path)
    return [table for build in builds for table in build(rows) if table.rows]


def _headline(job: MainJob, results: Path) -> list[Table]:
    """Before and after; nothing where there is no table, or one that cannot be read, of which `_study` speaks."""
    settings = job.profile.distillation
    recipe = {part: getattr(settings, part) for part in ("teacher", "student", "loss")}
    try:
        return _made(results / f"{MAIN}.csv", [lambda rows: tables.headline(rows, recipe)])
    except (ValueError, KeyError, TypeError):
        return []


def _others(folder: Path, chapters: list[Chapter]) -> list[Picture]:
    """Figures of the folder that no notebook of the profile makes as it is set today."""
    shown = {found.name for chapter in chapters for found in chapter.pictures} | {HEADLINE}
    return [found for name in names(folder) if name not in shown and (found := picture(folder, name))]


def _csv(results: Path) -> list[tuple[str, str, int]]:
    """Name, address beside the report, rows of each result table."""
    found = sorted(results.glob("*.csv"))
    lines = (path.read_text(encoding="utf-8", errors="replace").count("\n") - 1 for path in found)
    return [(path.name, f"../../results/{results.name}/{path.name}", n) for path, n in zip(found, lines, strict=True)]


def _manifest(manifest: dict[str, Any]) -> list[Table]:
    """How the results were made: jobs, images, versions."""
    jobs = [
        (name, duration(made["wall_s"]), f"{made['peak_rss_mb']:.0f} MB", str(made["key"]))
        for name, made in manifest.get("jobs", {}).items()
    ]
    images = [
        (name, *(str(about.get(part, ""))[:16] for part in ("source", "count", "classes", "digest")))
        for name, about in manifest.get("data", {}).items()
    ]
    seeds = [
        (seed, *(str(made.get(part) or "") for part in ("cpu", "precision", "torch")), str(made.get("revision"))[:8])
        for seed, made in sorted(manifest.get("by_seed", {}).items(), key=lambda each: (len(each[0]), each[0]))
    ]
    about = [*manifest.get("hardware", {}).items(), *manifest.get("versions", {}).items()]
    revision = manifest.get("git", {})
    changed = " and changes" if revision.get("changed") else ""
    made = [("revision", f"{revision['revision']}{changed}")] if revision.get("revision") else []
    made += [("precision", str(manifest["precision"]))] if "precision" in manifest else []
    made += [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in about]
    found = (
        Table("Notebooks", ("notebook", "time", "memory", "key"), tuple(jobs)),
        Table("Images", ("set", "source", "images", "classes", "sha256 begins"), tuple(images)),
        Table("Seeds", ("seed", "processor", "precision", "torch", "revision"), tuple(seeds)),
        Table("Versions", ("what", "which"), tuple((name, value or "none") for name, value in made)),
    )
    return [table for table in found if table.rows]


def _command(job: MainJob, stems: set[str]) -> str:
    """What makes what is missing."""
    profile = "" if job.source == "quick" else f" --profile {shlex.quote(job.source)}"
    wanted = [entry.notebook for entry in job.notebooks if entry.notebook in stems]
    only = f" --only {','.join(wanted)}" if wanted and len(wanted) < len(job.notebooks) else ""
    return f"./run_all.sh{profile}{only}"
