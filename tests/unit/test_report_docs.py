"""The examples in docs/report.md and docs/simulator.md are what the code takes."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from cascade.cli import app
from cascade.config import CostsConfig
from tests.conftest import ROOT
from training.outcome_table import read_outcomes

PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("report", "simulator")}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def test_the_outcome_table_of_the_page_is_one() -> None:
    table, bad = read_outcomes(line.encode() for line in blocks("simulator", "jsonl")[0].splitlines())
    assert not bad
    assert table is not None
    assert table.rungs == ("small", "big")


def test_the_prices_of_the_page_are_the_defaults() -> None:
    given = yaml.safe_load(blocks("report", "yaml")[0])["costs"]
    assert set(given) == set(CostsConfig.model_fields)
    made = CostsConfig(**given)
    assert made.model_copy(update={"wrong_answer": None}) == CostsConfig()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_option_of_the_pages_commands_exists(page: str) -> None:
    for line in "".join(blocks(page, "sh")).splitlines():
        name = line.split()[1]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown, line
