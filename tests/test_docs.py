"""What the documents say is so."""

import re
import runpy
from pathlib import Path

import pytest

from fusedata.profile import load_profile, shipped_profiles
from fusedata.recipe import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/cli.md")]
TRACKED = [p for f in ("fusedata", "recipes", "cards", "scripts", "docs", "benchmarks") for p in (ROOT / f).rglob("*")]


def test_the_commands_page_is_what_the_command_line_says():
    made = runpy.run_path(str(ROOT / "scripts" / "make_cli_docs.py"))["text"]()
    assert (ROOT / "docs" / "cli.md").read_text() == made, "run scripts/make_cli_docs.py"


def test_every_command_that_the_readme_types_exists():
    commands = (ROOT / "docs" / "cli.md").read_text()
    for line in re.findall(r"^fusedata ([a-z]+)", README, re.MULTILINE):
        assert f"## fusedata {line}\n" in commands


def test_every_file_that_a_document_links_to_is_there():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_benchmark_is_named_in_the_readme():
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert f"benchmarks/{path.name}" in README


def test_every_shipped_recipe_and_profile_loads_and_describes_itself():
    assert all(load_recipe(path).description for path in shipped_recipes().values())
    assert all(load_profile(path).description for path in shipped_profiles().values())


def test_the_extras_are_those_agreed_on():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    agreed = {
        "local",
        "vllm",
        "reward",
        "sandbox",
        "hub",
        "report",
        "audit",
        "evaluate",
        "train",
        "ray",
        "s3",
        "gcs",
        "oss",
        "dev",
    }
    assert set(extras) <= agreed


@pytest.mark.parametrize(
    "path", [p for p in TRACKED if p.suffix in {".py", ".toml", ".md", ".j2", ""} and p.is_file()], ids=str
)
def test_nothing_but_tests_and_benchmarks_names_the_shared_folder(path):
    if path.parent.name != "benchmarks":
        assert "../shared" not in path.read_text()
