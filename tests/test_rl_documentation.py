"""The tables of the documentation agree with the code: entries and defaults, and the names in the guides."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from graphray import rl
from graphray.rl.config import Config, ModelConfig
from graphray.rl.options import options
from graphray.rl.reference import page

DOCS = Path(__file__).parent.parent / "docs"
CODE = re.compile(r"`([^`]+)`")


def rows(name):
    """The cells of each row of the tables of a page, and the head above it."""
    found, head = [], None
    for line in (DOCS / name).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif not line.startswith("|---"):
            found.append((head, cells))
    return found


def test_the_page_of_entries_is_what_the_code_says():
    assert (DOCS / "rl-config.md").read_text("utf-8") == page(), "it is written by: python docs/rl_config.py"


def test_the_page_of_entries_has_all_of_them():
    found = {CODE.match(cells[0])[1] for _, cells in rows("rl-config.md")}
    kinds = [Config, ModelConfig, *(getattr(rl, name).Config for name in rl.ALGORITHMS)]
    assert found == {field.name for kind in kinds for field in dataclasses.fields(kind)}


def test_the_names_of_stable_baselines_lead_where_errors_lead_too():
    """In the table of the configuration: each name here exists, and is what is suggested for the one there."""
    checked = 0
    for head, cells in rows("from-sb3.md"):
        if head[1:] != list(rl.ALGORITHMS):
            continue
        theirs = CODE.match(cells[0])
        for algorithm, cell in zip(head[1:], cells[1:], strict=True):
            ours = CODE.match(cell)
            if ours is None or theirs is None or cells[0].endswith("in it"):
                continue
            name = ours[1].partition("=")[0]
            known = options(getattr(rl, algorithm).Config)
            assert name in known, (algorithm, name)
            there = CODE.findall(cells[0])[0].partition("=")[0]
            if name != there and there in {alias for one in known.values() for alias in one.aliases}:
                with pytest.raises(rl.ConfigError, match=f"it is called '{name}' here"):
                    getattr(rl, algorithm)("CartPole-v1", {there: 1})
                checked += 1
    assert checked > 15


def test_the_names_of_rllib_lead_to_names_that_there_are():
    known = {name for algorithm in rl.ALGORITHMS for name in options(getattr(rl, algorithm).Config)}
    known |= {"episode_reward_mean", "timesteps_total"}
    table = [cells for _, cells in rows("from-rllib.md")]
    renamed = [cells for cells in table if re.fullmatch(r"`[a-z_]+`( in Python, either in YAML)?", cells[1])]
    assert len(renamed) > 8
    assert {CODE.match(cells[1])[1] for cells in renamed} <= known | {"env_task_fn"}
