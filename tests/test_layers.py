"""Imports point down, and heavy libraries are imported where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import fusedata

PACKAGE = Path(fusedata.__file__).parent
HEAVY = {
    "aiohttp",
    "torch",
    "transformers",
    "vllm",
    "datasets",
    "trl",
    "lm_eval",
    "peft",
    "ray",
    "docker",
    "modelscope",
    "sympy",
    "math_verify",
    "s3fs",
    "upath",
}
STAGES = {"collect", "sample", "screen", "verify", "reward", "publish"}


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_stages_never_import_each_other():
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0]
        if own in STAGES:
            others = {name.split(".")[1] for name in imports(path) if name.startswith("fusedata.")}
            assert not (others & STAGES) - {own}, path


def test_nothing_below_the_command_line_imports_it():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in {"cli", "__main__.py"}:
            assert not any(name.startswith("fusedata.cli") for name in imports(path)), path


def test_only_the_command_line_prints_or_exits():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(f, ast.Name) and f.id in {"print", "exit"} for f in calls), path


def loaded_by(code: str) -> set[str]:
    program = f"import sys; {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_help_loads_no_heavy_library():
    code = "sys.argv = ['fusedata', '--help']\nfrom fusedata.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    program = f"import sys\n{code}\nprint('LOADED', *{{name.split('.')[0] for name in sys.modules}})"
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    loaded = set(out.split("LOADED")[1].split())
    assert "click" in loaded
    assert not loaded & (HEAVY | {"polars", "pydantic", "rich", "numpy", "pyarrow"})


def test_importing_the_build_loads_no_heavy_library():
    assert not loaded_by("import fusedata.build") & (HEAVY | {"huggingface_hub"})
