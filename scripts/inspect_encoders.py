"""How well does trigger inversion tell attacked encoders from clean ones?

    python scripts/inspect_encoders.py quick

Makes (or finds in the store) clean and attacked small encoders of many seeds, scores each, and judges the scores: the
threshold comes from other clean encoders than those that are judged; one attack and one trigger were held out from the
design of the search. Encoders cured by fine-tuning and by the recipe are scored too, and audited. Writes
results/<profile>/inspect.csv as it goes, inspect_audit.csv, inspect_summary.csv, inspect_clean.json (for
`python -m distill_lib inspect --clean-scores`) and the figure roc_inspect. A run that was killed goes on where it was.
"""

import argparse
from dataclasses import fields, replace

from distill_lib.errors import UsageError
from distill_lib.plots import make, numbers_roc_inspect
from distill_lib.study.session import open_study, repository
from distill_lib.study.store import write_text
from distill_lib.tools.inspect import experiment
from distill_lib.tools.inspect.audit import AuditConfig
from distill_lib.tools.inspect.inspect import RATE


def planned(few: int | None) -> experiment.Plan:
    """The plan; with `few`, that many seeds of each kind (and three for the threshold), to prove that it runs."""
    plan = experiment.Plan()
    if few is None:
        return plan
    shorter = {each.name: getattr(plan, each.name)[:few] for each in fields(plan)}
    return replace(plan, **{**shorter, "reference": plan.reference[: max(3, few)]})


def main() -> None:
    """Run all of it; print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--few", type=int, metavar="N", help="so many seeds of each kind; the numbers mean little then")
    parser.add_argument("--steps", type=int, help="of the search and the audit, in place of their own")
    args = parser.parse_args()
    try:
        config, audit = experiment.InversionConfig(), AuditConfig()
        if args.steps is not None:
            config = replace(config, steps=args.steps)
            relearn = replace(audit.relearn, steps=args.steps)
            audit = replace(audit, aim=replace(audit.aim, steps=args.steps), relearn=relearn, marks=(0, args.steps))
        study = open_study(args.profile)
    except UsageError as error:
        parser.error(str(error))
    stages, plan, name = study.stages, planned(args.few), study.profile.name
    folder = repository() / "results" / name
    experiment.prepare(study, plan)
    rows = experiment.run(stages, plan, folder, config)
    experiment.clean_scores(stages, rows, config).write(folder / "inspect_clean.json")
    found = experiment.summary(rows, RATE)
    write_text(folder / "inspect_summary.csv", found.to_csv(index=False))
    make("roc_inspect", numbers_roc_inspect(rows, found), repository() / "figures" / name)
    print(found.round(3).T.to_string(header=False))
    audits = experiment.audit_rows(stages, plan, audit)
    asked = experiment.merged(folder / "inspect_audit.csv", audits, stages.store.root)
    if len(asked):
        means = asked.groupby(["encoder", "question", "step"], sort=False)["share"].mean()
        print(means.round(1).to_string())


if __name__ == "__main__":
    main()
