"""The built wheel, in a virtual environment of its own, without the folders of the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that the checkout builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "runs", "dist", "build", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, source], check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `fusedata` command of an environment with the wheel, its own dependencies, and no extra."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "bin" / "fusedata"


def run(installed, tmp_path, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [installed, *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_recipes_sandbox_cards_and_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "fusedata/py.typed",
        "fusedata/_assets/recipes/math.toml",
        "fusedata/_assets/recipes/profiles/local.toml",
        "fusedata/_assets/recipes/embedded/LICENSE-gsm8k",
        "fusedata/_assets/recipes/embedded/preference-head/head.json",
        "fusedata/_assets/cards/dataset.md.j2",
    ):
        assert name in names


def test_the_core_brings_neither_torch_nor_vllm(installed):
    code = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    python = installed.with_name("python")
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "math-verify" in found
    assert not {"torch", "vllm", "transformers", "datasets"} & set(found)


def test_the_installed_command_lists_its_recipes(installed, tmp_path):
    assert "math" in run(installed, tmp_path, "recipes").stdout


def test_the_installed_command_plans_the_embedded_build(installed, tmp_path):
    result = run(installed, tmp_path, "build", "math", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "192" in result.stdout


def test_the_installed_command_verifies_in_worker_processes(installed, tmp_path):
    row = r'{"gold": "\\sin^2 x", "response": "\\boxed{1 - \\cos^2 x}"}'
    (tmp_path / "rows.jsonl").write_text(row + "\n")
    result = run(installed, tmp_path, "verify", "math", "rows.jsonl")
    assert '"passed": true' in result.stdout, result.stderr


def test_a_missing_extra_is_one_sentence_that_names_it(installed, tmp_path):
    result = run(installed, tmp_path, "build", "math")
    assert result.returncode == 2
    assert "pip install 'fusedata[local]'" in result.stderr
    assert "Traceback" not in result.stderr
