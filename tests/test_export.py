"""Exports: each is what its consumer reads, and none of its rows is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from runs import SUMS, built, invoke

from fusedata.errors import ConfigError, CorpusError
from fusedata.export import FORMS, Form, export
from fusedata.shapes import PARTS
from fusedata.sources import datasets_in, find_folder

Row = dict[str, Any]
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("run"))


def answered(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Pairs and SFT rows with system prompts and several turns."""
    long = [*SYSTEM, *answered("Because."), {"role": "user", "content": "And then?"}]
    pairs = [{"prompt": p, "chosen": answered("So."), "rejected": answered("No.")} for p in (SYSTEM, long, long[1:])]
    for name, rows in (("dpo", pairs), ("sft", [{"messages": [*p["prompt"], *p["chosen"]]} for p in pairs])):
        (tmp_path / "foreign" / name).mkdir(parents=True)
        pl.DataFrame(rows).write_parquet(tmp_path / "foreign" / name / "train.parquet")
    return tmp_path / "foreign"


def rows_of(source: Path) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """The turns of every row, by kind and split, as the reader of all shapes gives them."""
    folder, files = find_folder(source)
    return {
        (dataset.kind, str(split)): rows.select(PARTS[dataset.kind]).rows()
        for dataset in datasets_in(folder, files)
        for (split,), rows in dataset.rows.collect().group_by("split")
    }


@pytest.mark.parametrize("form", FORMS)
def test_an_export_says_what_its_source_says(run: Path, tmp_path: Path, form: Form) -> None:
    written = export(run, form, tmp_path / "out")
    assert sum(one.rows for one in written) == SUMS + 1
    assert all(one.path.exists() for one in written)
    assert rows_of(tmp_path / "out") == rows_of(run / "dataset")


@pytest.mark.parametrize("form", FORMS)
def test_system_prompts_and_several_turns_are_kept(foreign: Path, tmp_path: Path, form: Form) -> None:
    export(foreign, form, tmp_path / "out")
    assert rows_of(tmp_path / "out") == rows_of(foreign)


@pytest.mark.parametrize("form", FORMS)
def test_an_export_can_be_exported_again(foreign: Path, tmp_path: Path, form: Form) -> None:
    export(foreign, form, tmp_path / "out")
    export(tmp_path / "out", "trl", tmp_path / "again")
    assert rows_of(tmp_path / "again") == rows_of(foreign)


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_llamafactory_is_given_single_turns_and_an_entry_a_file(foreign: Path, tmp_path: Path) -> None:
    export(foreign, "llamafactory", tmp_path / "out")
    rows = lines(tmp_path / "out" / "dpo_train.jsonl")
    assert [row["chosen"] for row in rows] == [{"from": "gpt", "value": "So."}] * 3
    assert [row["system"] for row in rows] == ["Be brief.", "Be brief.", ""]
    assert [[turn["from"] for turn in row["conversations"]] for row in rows] == [
        ["human"],
        ["human", "gpt", "human"],
        ["human", "gpt", "human"],
    ]
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert {name: entry.get("ranking") for name, entry in info.items()} == {"dpo_train": True, "sft_train": None}


def test_ms_swift_is_given_messages_that_end_in_the_chosen_answer(run: Path, tmp_path: Path) -> None:
    export(run, "ms-swift", tmp_path / "out")
    for row in lines(tmp_path / "out" / "dpo_train.jsonl"):
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert isinstance(row["rejected_response"], str)
        assert row["rejected_response"] != row["messages"][-1]["content"]


def test_fuseais_shape_is_one_json_array_with_its_columns(run: Path, tmp_path: Path) -> None:
    export(run, "fuseai", tmp_path / "out")
    (sft,) = json.loads((tmp_path / "out" / "sft" / "train.json").read_text())
    assert set(sft) == {"dataset", "source_model", "conversations"}
    assert [turn["from"] for turn in sft["conversations"]] == ["human", "gpt"]
    dpo = json.loads((tmp_path / "out" / "dpo" / "train.json").read_text())
    assert {tuple(row) for row in dpo} == {("dataset", "source_model", "prompt", "chosen", "rejected")}


def test_trl_reads_every_pair_as_a_conversation(run: Path, tmp_path: Path, tiny_model: Path) -> None:
    datasets = pytest.importorskip("datasets")
    utils = pytest.importorskip("trl.data_utils")
    from transformers import AutoTokenizer

    export(run, "trl", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for kind, keys in (("dpo", {"prompt", "chosen", "rejected"}), ("sft", {"text"})):
        rows = datasets.load_dataset(str(tmp_path / "out" / kind), cache_dir=str(tmp_path / "cache"))["train"]
        assert all(utils.is_conversational(row) for row in rows)
        plain = [utils.maybe_apply_chat_template(utils.maybe_extract_prompt(row), tokenizer) for row in rows]
        assert len(plain) == len(rows) > 0
        assert all(keys <= set(row) and all(row[key] for key in keys) for row in plain)


READERS = Path(sys.prefix, "readers")  # apart from the environment: ms-swift hooks itself into every vLLM it meets


def read_by(reader: str, code: str, *files: Path) -> list[str]:
    if not (READERS / reader).is_dir():
        pytest.skip(f"{reader} is not in {READERS} (scripts/test puts it there)")
    words = [sys.executable, "-c", code, *map(str, files)]
    environment = os.environ | {"PYTHONPATH": str(READERS)}
    return subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()


_LLAMAFACTORY = """
import json, sys, types
from pathlib import Path
from types import SimpleNamespace
for name in ("llamafactory", "llamafactory.data"):  # their __init__ loads what only training needs
    package = types.ModuleType(name)
    package.__path__ = [str(Path(sys.argv[1], *name.split(".")[1:]))]
    sys.modules[name] = package
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
for entry in get_dataset_list(["dpo_train", "sft_train"], sys.argv[2]):
    convert = get_dataset_converter(entry.formatting, entry, SimpleNamespace(media_dir="."))
    rows = [convert(json.loads(line)) for line in Path(sys.argv[2], entry.dataset_name).open()]
    print(entry.dataset_name, len(rows), sum(len(row["_response"]) for row in rows if row["_prompt"]))
"""


def test_llamafactorys_own_converter_keeps_every_row(foreign: Path, tmp_path: Path) -> None:
    export(foreign, "llamafactory", tmp_path / "out")
    printed = read_by("llamafactory", _LLAMAFACTORY, READERS / "llamafactory", tmp_path / "out")
    assert printed == ["dpo_train.jsonl 3 6", "sft_train.jsonl 3 3"]


def test_ms_swifts_own_loader_keeps_every_row(foreign: Path, tmp_path: Path) -> None:
    export(foreign, "ms-swift", tmp_path / "out")
    code = "import sys; from swift.dataset import load_dataset; print(*(len(load_dataset([p], strict=True)[0]) for p in sys.argv[1:]))"
    files = [tmp_path / "out" / f"{kind}_train.jsonl" for kind in ("dpo", "sft")]
    assert read_by("swift", code, *files)[-1] == "3 3"


def test_a_row_that_could_only_be_exported_in_part_is_refused(tmp_path: Path) -> None:
    two = [*answered("So."), *answered("Well.")]
    rows = [{"prompt": SYSTEM, "chosen": answer, "rejected": answered("No.")} for answer in (answered("So."), two)]
    pl.DataFrame(rows).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(CorpusError, match="row 1 of train has no prompt, or an answer that is not one turn"):
        export(tmp_path, "ms-swift", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already and not empty"):
        export(run, "trl", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_says_what_it_wrote(run: Path, tmp_path: Path) -> None:
    printed = invoke("export", run, tmp_path / "out", "--for", "llamafactory", columns=200)
    assert "dpo_train.jsonl" in printed
    assert "as dataset_dir" in printed
