"""README, docs and configs show the committed measurements, and the pages on tasks agree with the tasks."""

from pathlib import Path
from typing import Any

import pytest

from docs.scripts import studies, tasks
from docs.scripts.results import (
    ROOT,
    measured,
    page,
    read_reports,
    task,
    with_benchmarks,
    with_first_line,
    with_measured,
    with_summary,
)

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
Reports = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def reports() -> Reports:
    """All reports, read once."""
    return read_reports()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_first_line_of_a_config_is_the_measured_result(config: Path, reports: Reports) -> None:
    assert config.read_text() == with_first_line(config, reports), "python -m docs.scripts.results"


def test_the_readme_shows_the_measured_results(reports: Reports) -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == with_benchmarks(with_summary(readme, reports)), "run python -m docs.scripts.results"


def test_the_page_of_results_shows_the_measured_results(reports: Reports) -> None:
    assert (ROOT / "docs" / "results.md").read_text() == page(reports), "run python -m docs.scripts.results"


def test_the_page_of_a_study_shows_its_report() -> None:
    for name, text in {"reversal": studies.reversal_page(), "delay_memory": studies.delay_memory_page()}.items():
        assert (ROOT / "docs" / "studies" / f"{name}.md").read_text() == text, "run python -m docs.scripts.studies"


@pytest.mark.slow
def test_every_page_shows_the_measured_results(reports: Reports) -> None:
    pages = list((ROOT / "docs").rglob("*.md"))
    assert sum("<!-- measured: " in path.read_text() for path in pages) > 20
    for path in pages:
        text = path.read_text()
        assert text == with_benchmarks(with_measured(text, path.parent, reports)), (
            f"run python -m docs.scripts.results ({path})"
        )


def test_a_run_on_another_task_is_shown_under_that_one(reports: Reports) -> None:
    elsewhere = reports["popgym_position_only_cartpole_r2d2"]
    assert task(elsewhere) == "popgym:popgym-PositionOnlyCartPoleEasy-v0"
    assert elsewhere["command"] not in measured("seqrl/CartPoleNoVel-v1", ROOT, reports)
    assert elsewhere["command"] in measured(elsewhere["config"], ROOT, reports)


@pytest.mark.slow
def test_the_pages_of_the_tasks_say_what_the_tasks_are() -> None:
    for path, text in tasks.pages().items():
        assert path.read_text() == text, f"run python -m docs.scripts.tasks ({path})"
        assert tasks.PICTURES.joinpath(f"{path.stem}.gif").exists() or path.stem == "index"


def test_every_file_has_a_name_that_every_file_system_takes() -> None:
    assert [path.name for path in (ROOT / "docs").rglob("*") if set(path.name) & set('\\:*?"<>|')] == []
