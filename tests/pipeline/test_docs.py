"""The documents stay true: commands, options, links, paths and the params they show."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipeline.cli import app
from pipeline.params import read_params
from pipeline.registry import STAGES
from stages.frame.params import registry_of
from tools import ROOT, run_dff

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def fenced(document: Path, language: str = r"\w*") -> Iterator[str]:
    """The fenced blocks of a document."""
    text = document.read_text(encoding="utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: Path) -> Iterator[list[str]]:
    """Every `dff ...` of a document, in blocks and in the text."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    quoted = re.findall(r"`(dff [^`\n]+)`", text)
    lines = re.findall(r"^(dff [^#\n]+)", text, re.MULTILINE)
    for line in [*quoted, *lines]:
        yield shlex.split(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    for _, *words in commands(document):
        name = words[0]
        if name.startswith("-"):
            continue
        assert name in COMMANDS, f"{document.name}: dff {name}"
        params = COMMANDS[name].params
        known = {option for one in params for option in (*one.opts, *one.secondary_opts)}
        for word in words[1:]:
            if word.startswith("-"):
                assert word in known, f"{document.name}: dff {' '.join(words)}: {word}"


def test_nothing_is_left_to_fill_in() -> None:
    for document in DOCUMENTS:
        assert "@@" not in document.read_text(encoding="utf-8"), document.name


def test_the_documents_show_commands() -> None:
    assert sum(1 for document in DOCUMENTS for _ in commands(document)) > 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_stage_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for stage in STAGES:
        assert re.search(rf"\| `dff {stage.name}` \|.*`{re.escape(str(stage.writes))}", text)


def keys_of(params: Any) -> set[str]:
    """The keys of a section of params.yaml, sections of options among them."""
    options = [one for one in fields(params) if "options_of" in one.metadata]
    sections = {name for one in options for name in registry_of(type(params), one)}
    return {one.name for one in fields(params)} | sections


def test_params_shown_in_documents_are_real() -> None:
    known = read_params(ROOT)
    shown = 0
    for document in DOCUMENTS:
        for block in fenced(document, "yaml"):
            for section, values in yaml.safe_load(block).items():
                for key in values:
                    assert key in keys_of(known[section]), f"{document.name}: {section}.{key}"
                    shown += 1
    assert shown > 5


def test_paths_named_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("pipeline/", "stages/", "stages/algorithms/", "stages/datasets/", "store/"):
        assert name in text and (ROOT / name).is_dir()
    for path in re.findall(r"`((?:stages|pipeline|store|tests|scripts)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_explains_itself(name: str) -> None:
    result = run_dff(name, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.split()) > 25
    if name in {stage.name for stage in STAGES}:
        assert "--memory" in result.stdout and "params.yaml" in result.stdout
