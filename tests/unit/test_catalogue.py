"""What the Snakemake workflow catalogue reads: conditions of its scripts/generate-catalog.py at commit 2cac294."""

import yaml

from helpers.paths import ROOT

SETTINGS = ROOT / ".snakemake-workflow-catalog.yml"


def test_the_catalogue_finds_the_workflow():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "workflow/Snakefile").is_file()  # required where there is a folder `workflow`
    assert list((ROOT / "workflow/rules").glob("*.smk"))


def test_its_settings_claim_only_what_has_been_run():
    usage = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"] == {"conda": False, "apptainer": False, "apptainer+conda": False}
    tests = (ROOT / "tests/integration/test_workflow.py").read_text(encoding="utf-8")
    assert usage["report"] is ('"--report"' in tests)
    # Without this file it is listed among all workflows only, as the comment there says.
    assert not (ROOT / "config/README.md").exists()
