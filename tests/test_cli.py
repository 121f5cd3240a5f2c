"""The command line as its users meet it: real processes, exit codes, one clear sentence."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import questions, recipe_over, twin_build, write_corpus

FUSEDATA = [sys.executable, "-m", "fusedata"]


def fusedata(*arguments, stdin="", cwd=None, **environment):
    return subprocess.run(
        [*FUSEDATA, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def refused(result):
    """The message of a command that exits with 2: no traceback, nothing on standard output."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


RECIPE = """
[[corpora]]
id = "test/modulo"
path = "modulo.jsonl"
prompt = "question"
answer = "answer"
[[source_models]]
id = "test/tiny"
samples = 2
max_tokens = 8
[correctness]
check = "math_answer"
"""
PROFILE = """
[[engines]]
engine = "transformers"
weights = "{weights}"
batch_size = 4
"""


@pytest.fixture
def project(tmp_path, tiny_model):
    """A folder with a recipe, a profile and a corpus."""
    write_corpus(tmp_path / "modulo.jsonl", questions(12))
    (tmp_path / "modulo.toml").write_text(RECIPE)
    (tmp_path / "tiny.toml").write_text(PROFILE.format(weights=tiny_model))
    return tmp_path


def build(project, *arguments):
    return fusedata("build", "modulo.toml", "--profile", "tiny.toml", *arguments, cwd=project)


def test_version_and_help_exit_with_0():
    assert fusedata("--version").stdout.startswith("fusedata, version ")
    assert "build" in fusedata("--help").stdout


@pytest.mark.parametrize("command", ["build", "inspect", "recipes", "status", "verify", "verify math", "recipes copy"])
def test_every_command_has_help(command):
    assert "Usage: fusedata " + command in fusedata(*command.split(), "--help").stdout


@pytest.mark.parametrize("own", ["", "dirty_decay_ms:7"])
def test_polars_keeps_its_memory_for_ten_seconds_unless_the_user_says_otherwise(own):
    code = "import os, fusedata.cli, polars; print(os.environ['_RJEM_MALLOC_CONF'])"
    found = printed(code, _RJEM_MALLOC_CONF=own)
    assert found.endswith(own or ",dirty_decay_ms:10000,muzzy_decay_ms:10000")


@pytest.mark.parametrize("own", ["", "jemalloc"])
def test_arrow_keeps_its_memory_unless_the_user_says_otherwise(own):
    code = "import fusedata.cli, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert printed(code, ARROW_DEFAULT_MEMORY_POOL=own) == (own or "system")


def printed(code: str, **told: str) -> str:
    """Run code in a process that is told these variables of the environment, an empty one not at all."""
    environment = {name: value for name, value in (os.environ | told).items() if value or name not in told}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_an_unknown_command_exits_with_2():
    assert "No such command" in refused(fusedata("bild"))


def test_an_unknown_recipe_names_those_there_are():
    assert "mth: unknown recipe; there are" in refused(fusedata("build", "mth"))


def test_an_unknown_profile_names_those_there_are():
    assert "cluster: unknown profile; there are" in refused(fusedata("build", "math", "--profile", "cluster"))


def test_every_mistake_of_a_recipe_is_told_at_once(project):
    text = RECIPE.replace('prompt = "question"', 'promt = "question"').replace("samples = 2", "samples = 0")
    (project / "modulo.toml").write_text(text + "[dpo]\nreward_gap = [0.1, 0.01]\n")
    message = refused(build(project))
    for mistake in (
        "corpora[0].promt: unknown key",
        "corpora[0].prompt: is missing",
        "source_models[0].samples",
        "swapped",
    ):
        assert mistake in message


@pytest.mark.model
def test_a_build_ends_with_its_counts_and_where_they_lie(project):
    result = build(project)
    assert result.returncode == 0, result.stderr
    assert "Left out: " in result.stdout
    assert "SFT " in result.stdout
    assert "fusedata inspect runs/modulo" in result.stdout


@pytest.mark.model
def test_a_build_tells_json_to_scripts(project):
    result = json.loads(build(project, "--json").stdout)
    assert result["run"] == "runs/modulo"
    assert sum(result["sft"].values()) + sum(result["dropped"].values()) == 12


@pytest.mark.model
def test_progress_in_a_pipe_is_plain_lines(project):
    lines = build(project).stderr
    assert "sample test/tiny: 24 to do\n" in lines
    assert "\x1b" not in lines


def test_a_dry_run_draws_nothing(project):
    result = json.loads(build(project, "--dry-run", "--json").stdout)
    assert result["work"][0]["requests"] == 24
    assert not (project / "runs").exists()


def test_calibrating_without_a_dry_run_is_refused(project):
    assert "give --dry-run with it" in refused(build(project, "--calibrate", "3"))


@pytest.mark.model
def test_a_calibrated_dry_run_shows_hours_from_a_real_sample(project):
    shown = build(project, "--dry-run", "--calibrate", "3")
    assert "measured on a real sample of 3 prompts" in shown.stdout
    assert "sample test/tiny: 6 to do" in shown.stderr
    assert [path.name for path in (project / "runs").iterdir()] == ["modulo-calibration"]


@pytest.mark.model
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(project):
    write_corpus(project / "modulo.jsonl", questions(3000))
    process = subprocess.Popen(
        [*FUSEDATA, "build", "modulo.toml", "--profile", "tiny.toml"], cwd=project, stderr=subprocess.PIPE, text=True
    )
    while not list(project.glob("runs/modulo/responses/*/part-*.parquet")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors


def test_an_output_that_is_a_file_is_refused(project):
    (project / "taken").write_text("")
    assert "taken: is a file; choose another --out" in refused(build(project, "--out", "taken"))


def test_an_output_that_holds_other_things_is_refused(project):
    (project / "mine").mkdir()
    (project / "mine" / "notes.txt").write_text("")
    assert "holds other files (notes.txt" in refused(build(project, "--out", "mine"))


def test_another_recipes_run_is_refused(project):
    twin_build(recipe_over(project / "modulo.jsonl", name="other")).run(project / "run")
    assert "is a run of recipe other, not modulo" in refused(build(project, "--out", "run"))


BAD_CORPORA = {
    "missing": (None, "modulo.jsonl"),
    "empty": (b"", "empty"),
    "truncated": (b'{"question": "a", "answer": "1"}\n{"question": "b", "ans', "line 2"),
    "without the column": (b'{"problem": "a", "answer": "1"}\n', "'question'"),
    "of a wrong type": (b'{"question": 5, "answer": "1"}\n', "question"),
    "not UTF-8": (b'{"question": "\xff", "answer": "1"}\n', "UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_CORPORA)
def test_a_corpus_file_that_is_bad_gives_one_sentence(project, kind):
    content, expected = BAD_CORPORA[kind]
    (project / "modulo.jsonl").unlink()
    if content is not None:
        (project / "modulo.jsonl").write_bytes(content)
    message = refused(build(project))
    assert "test/modulo" in message
    assert expected in message


def test_a_model_that_no_engine_serves_is_refused_before_anything_is_written(project):
    (project / "tiny.toml").write_text('[[engines]]\nengine = "transformers"\nmodels = ["other/*"]\n')
    assert "no engine serves test/tiny" in refused(build(project))
    assert not (project / "runs").exists()


def test_a_reward_model_that_cannot_be_had_is_refused_before_anything_is_written(project):
    (project / "modulo.toml").write_text(RECIPE + '[reward]\nmodel = "RLHFlow/ArmoRM-Llama3-8B-v0.1"\n')
    assert "RLHFlow/ArmoRM-Llama3-8B-v0.1: its weights cannot be loaded" in refused(build(project))
    assert not (project / "runs").exists()


def test_recipes_lists_what_ships():
    listed = fusedata("recipes").stdout
    assert "math" in listed
    assert "local" in listed


def test_recipes_copy_gives_one_to_edit(tmp_path):
    assert fusedata("recipes", "copy", "math", tmp_path).returncode == 0
    assert fusedata("build", tmp_path / "math.toml", "--dry-run", "--json").returncode == 0


def test_recipes_copy_replaces_nothing(tmp_path):
    fusedata("recipes", "copy", "math", tmp_path)
    assert "is there already" in refused(fusedata("recipes", "copy", "math", tmp_path))


def test_recipes_copy_of_an_unknown_name_names_those_there_are(tmp_path):
    assert "there are" in refused(fusedata("recipes", "copy", "maths", tmp_path))


ROWS = [
    {"gold": "4", "response": "So the answer is 4.", "id": 17},
    {"gold": "4", "response": "It is 5."},
    {"gold": "", "response": "4"},
    {"response": "4"},
    {"gold": 4, "response": "4.0"},
    ["no", "object"],
    {"gold": "1", "response": "\ud800 1"},
]
PASSED = [True, False, None, None, True, None, True]


def verified(stdin):
    result = fusedata("verify", "math", "-", stdin=stdin)
    return result, [json.loads(line) for line in result.stdout.splitlines()]


def test_verify_math_judges_rows_in_order_and_exits_with_0():
    result, verdicts = verified("".join(json.dumps(row) + "\n" for row in ROWS))
    assert result.returncode == 0
    assert [verdict["passed"] for verdict in verdicts] == PASSED
    assert all(set(verdict) == {"passed", "extracted", "method", "detail"} for verdict in verdicts)


def test_verify_math_says_why_a_row_could_not_be_judged():
    _, verdicts = verified("".join(json.dumps(row) + "\n" for row in ROWS))
    assert all(verdict["detail"] for verdict, passed in zip(verdicts, PASSED, strict=True) if passed is None)


def test_verify_math_exits_with_2_at_a_line_that_is_no_json_after_the_rows_before_it():
    result, verdicts = verified(json.dumps(ROWS[0]) + "\n{broken\n" + json.dumps(ROWS[0]) + "\n")
    assert "line 2: is no JSON" in result.stderr
    assert result.returncode == 2
    assert [verdict["passed"] for verdict in verdicts] == [True]


def test_verify_math_of_nothing_prints_nothing():
    result, verdicts = verified("")
    assert (result.returncode, verdicts) == (0, [])


def test_verify_math_of_a_missing_file_is_refused(tmp_path):
    assert "cannot be read" in refused(fusedata("verify", "math", tmp_path / "absent.jsonl"))


def test_a_closed_pipe_ends_quietly(tmp_path):
    path = write_corpus(tmp_path / "rows.jsonl", [ROWS[0]] * 20_000)
    command = " ".join([*FUSEDATA, "verify", "math", str(path)]) + " | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout)["passed"] is True


@pytest.mark.model
def test_samples_that_failed_are_told_of(project, tiny_model, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    folder = tmp_path / "refusing"
    shutil.copytree(tiny_model, folder)
    refusing = (
        "{% if '3' in messages[0]['content'] %}{{ raise_exception('not so') }}{% endif %}" + tokenizer.chat_template
    )
    (folder / "chat_template.jinja").write_text(refusing)
    (project / "tiny.toml").write_text(PROFILE.format(weights=folder))
    result = build(project)
    assert result.returncode == 0
    assert "2 samples failed (see: fusedata status runs/modulo)" in result.stdout


def test_a_pipe_closed_early_is_no_unreadable_file(tmp_path):
    path = write_corpus(tmp_path / "rows.jsonl", [ROWS[0]] * 50_000)
    command = " ".join([*FUSEDATA, "verify", "math", str(path)]) + " | head -c 10"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""


@pytest.mark.model
def test_a_build_that_yields_nothing_says_so(project):
    write_corpus(project / "modulo.jsonl", [{"question": "Which?", "answer": "123456789"}])
    result = build(project)
    assert result.returncode == 0
    assert "No prompt gave a row; fusedata status runs/modulo says why." in result.stderr
    assert "1 no correct response" in result.stdout
