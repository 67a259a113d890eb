"""The studies of published tables, as if measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.helpers.built import write
from tests.helpers.made_runs import Made
from xmr_e2e.files import sha256_of
from xmr_e2e.runs.experiment import Train
from xmr_e2e.runs.run import Run
from xmr_e2e.studies.files import find_studies, load_study
from xmr_e2e.studies.plan import Plan, plan_study
from xmr_e2e.studies.study import Study, Variant

STUDIES = {name: load_study(path) for name, path in find_studies().items()}


def measured(tmp_path: Path, dataset: str, published: str = "dscmr, Table 6") -> Plan:
    """A study of two rows, each measured once."""
    scores = {"mAP@all": 0.5, "mAP@50": 0.7}
    made = Made(dataset=dataset, sizes=(800, 100, 100), classes=20, scores=scores)
    base = Run(made.write(tmp_path / "made/first")).experiment()
    base = replace(base, train=Train(select="mAP@all", protocol="clean"))
    variants = Variant("DSCMR3", {"method.invariance": 0.0}), Variant("our own", {"method.common": 0.0})
    study = Study("DSCMR", (base,), variants, seeds=(0,), reference="Full DSCMR", published=published, name="table6")
    for row in study.rows:
        run = tmp_path / "runs/dscmr_wikipedia" / row.run_name(0)
        replace(made, config=row.experiment.method).write(run)
        Run(run).start(row.experiment, {"manifest_sha256": sha256_of(base.data.shards / "manifest.json")})
        write(run / "metrics.jsonl", '{"step": 1}\n')
    return plan_study(study, tmp_path / "runs")
