"""Dataset folders as hubs, `datasets`, polars and TRL meet them."""

import hashlib
import os
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import dataset_bytes, questions, recipe_over, twin_build, write_corpus
from polars.testing import assert_frame_equal

from fusedata.config import validate
from fusedata.dataset import DPO, SFT, Datasets
from fusedata.publish.folder import Written, features, write_split
from fusedata.publish.stage import recipe_toml
from fusedata.recipe import Recipe

WORDS = ["".join(random.Random(n).choices("abcdefghij", k=6)) for n in range(3_000)]


def conversations(count: int, seed: int = 0) -> pl.DataFrame:
    """Rows whose texts do not compress to nothing, about 800 bytes each."""
    draw = random.Random(seed)
    rows = [
        {
            "prompt_id": f"{seed}-{n}",
            "messages": [
                {"role": "user", "content": " ".join(draw.choices(WORDS, k=30))},
                {"role": "assistant", "content": " ".join(draw.choices(WORDS, k=80))},
            ],
            "reward": draw.random(),
        }
        for n in range(count)
    ]
    return pl.DataFrame(rows, schema={name: SFT[name] for name in ("prompt_id", "messages", "reward")})


def written(folder: Path, rows: pl.DataFrame, **limits: int) -> tuple[Written, list[pq.ParquetFile]]:
    found = write_split(folder, "train", rows, **limits)
    return found, [pq.ParquetFile(folder / name) for name in found.files]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Datasets]:
    """A whole build with twins: 120 prompts, SFT and DPO."""
    folder = tmp_path_factory.mktemp("built")
    recipe = recipe_over(write_corpus(folder / "modulo.jsonl", questions(120)), dpo={}, split={"order": "shared"})
    return folder / "run", twin_build(recipe).run(folder / "run")


# Parquet files.


def test_a_split_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = conversations(50)
    write_split(tmp_path, "train", rows)
    assert_frame_equal(pl.scan_parquet(tmp_path / "data" / "train-*.parquet").collect(), rows)


def test_files_are_named_as_the_hub_names_them(tmp_path: Path) -> None:
    found, _ = written(tmp_path, conversations(4), shard=2_000)
    assert list(found.files) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]


def test_files_are_known_by_what_they_hold(tmp_path: Path) -> None:
    found, _ = written(tmp_path, conversations(40), shard=3_000)
    assert len(found.files) > 2
    assert found.files == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in found.files}


def test_texts_of_turns_have_no_dictionary_and_their_roles_have(tmp_path: Path) -> None:
    _, (file,) = written(tmp_path, conversations(40))
    columns = [file.metadata.row_group(0).column(at) for at in range(file.metadata.num_columns)]
    have = {column.path_in_schema: column.has_dictionary_page for column in columns}
    assert have["messages.list.element.role"]
    assert not have["messages.list.element.content"]


@pytest.mark.parametrize("count", [1, 2, 5, 97])
def test_no_file_exceeds_the_shard_limit_and_none_is_empty(tmp_path: Path, count: int) -> None:
    found, files = written(tmp_path, conversations(count), shard=3_000)
    tables = [file.read() for file in files]
    assert all(table.num_rows and (table.nbytes <= 3_000 or table.num_rows == 1) for table in tables)
    assert sum(table.num_rows for table in tables) == found.rows == count


def test_a_few_long_rows_do_not_break_the_limits(tmp_path: Path) -> None:
    long = conversations(1).with_columns(prompt_id=pl.lit("x" * 10_000))
    _, files = written(tmp_path, pl.concat([conversations(20), long, long]), shard=12_000)
    assert all(file.read().nbytes <= 12_000 for file in files)


def test_no_row_group_exceeds_its_limit(tmp_path: Path) -> None:
    _, (file,) = written(tmp_path, conversations(97), row_group=5_000)
    sizes = [file.read_row_group(number).nbytes for number in range(file.num_row_groups)]
    assert len(sizes) > 10
    assert max(sizes) <= 5_000


def test_every_column_has_a_page_index(tmp_path: Path) -> None:
    _, (file,) = written(tmp_path, conversations(10))
    group = file.metadata.row_group(0)
    assert all(group.column(n).has_offset_index and group.column(n).has_column_index for n in range(group.num_columns))


def test_a_row_inserted_changes_few_bytes(tmp_path: Path) -> None:
    """What a hub stores anew: blocks of the new file that the old one has nowhere."""
    rows = conversations(8_000)
    (old, new) = (tmp_path / name / "data" / "train-00000-of-00001.parquet" for name in ("old", "new"))
    write_split(tmp_path / "old", "train", rows)
    write_split(tmp_path / "new", "train", pl.concat([rows[:3_000], conversations(1, seed=1), rows[3_000:]]))
    before, after = old.read_bytes(), new.read_bytes()
    blocks = [before[at : at + 4_096] for at in range(0, len(before), 4_096)]
    assert len(blocks) > 500
    assert sum(block not in after for block in blocks) < 0.15 * len(blocks)


def test_the_same_rows_give_the_same_bytes_however_they_lie_in_memory(tmp_path: Path) -> None:
    rows = conversations(5_000)
    pieces = pl.concat([rows[:7], rows[7:3_000], rows[3_000:]], rechunk=False)
    for name, frame in (("one", rows), ("pieces", pieces)):
        write_split(tmp_path / name, "train", frame, row_group=2_000_000)
    one, other = ((tmp_path / name / "data/train-00000-of-00001.parquet").read_bytes() for name in ("one", "pieces"))
    assert one == other


def test_what_was_written_is_counted(tmp_path: Path) -> None:
    found, files = written(tmp_path, conversations(30), shard=6_000)
    assert found.size == pytest.approx(sum(file.read().nbytes for file in files), rel=0.05)
    assert found.download == sum((tmp_path / name).stat().st_size for name in found.files)


# What reads them.


@pytest.fixture
def loaded(built: tuple[Path, Datasets], tmp_path: Path) -> Any:
    load_dataset = pytest.importorskip("datasets").load_dataset
    run, _ = built
    return lambda kind: load_dataset(str(run / "dataset" / kind), cache_dir=str(tmp_path))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_datasets_loads_the_folder_with_the_declared_features_and_rows(
    kind: str, built: tuple[Path, Datasets], loaded: Any
) -> None:
    run, datasets = built
    found, rows = loaded(kind), getattr(datasets, kind)
    info = yaml.safe_load((run / "dataset" / kind / "README.md").read_text().split("---\n")[1])["dataset_info"]
    assert {split: len(part) for split, part in found.items()} == {s["name"]: s["num_examples"] for s in info["splits"]}
    assert (len(found["train"]), len(found["test"])) == ((~rows["test"]).sum(), rows["test"].sum())
    assert found["train"].features._to_yaml_list() == info["features"]


@pytest.mark.parametrize("schema", [SFT, DPO], ids=["sft", "dpo"])
def test_features_are_written_as_datasets_writes_them(schema: pl.Schema) -> None:
    library = pytest.importorskip("datasets")
    declared = features(schema)
    assert library.Features._from_yaml_list(declared)._to_yaml_list() == declared


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_polars_scans_the_folder(kind: str, built: tuple[Path, Datasets]) -> None:
    run, datasets = built
    rows = pl.concat(pl.read_parquet(run / "dataset" / kind / "data" / f"{s}-*.parquet") for s in ("train", "test"))
    assert_frame_equal(rows.sort("prompt_id"), getattr(datasets, kind).drop("test"))


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_trl_trains_a_step_on_the_folder_as_it_is(kind: str, loaded: Any, tiny_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    transformers = pytest.importorskip("transformers")
    config, trainer = {"sft": (trl.SFTConfig, trl.SFTTrainer), "dpo": (trl.DPOConfig, trl.DPOTrainer)}[kind]
    data = loaded(kind)
    once = trainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(tiny_model),
        args=config(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            max_length=128,
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=transformers.AutoTokenizer.from_pretrained(tiny_model),
    )
    assert len(once.train_dataset) == len(data["train"])
    assert once.train().global_step == 1


# The folder.


def test_checksums_are_those_of_every_other_file(built: tuple[Path, Datasets]) -> None:
    for kind in ("sft", "dpo"):
        folder = built[0] / "dataset" / kind
        sums = orjson.loads((folder / "checksums.json").read_bytes())
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        assert set(files) - set(sums) == {"checksums.json"}
        assert sums == {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in sums}


def test_the_card_counts_the_rows_that_lie_beside_it(built: tuple[Path, Datasets]) -> None:
    run, datasets = built
    for kind in ("sft", "dpo"):
        card = (run / "dataset" / kind / "README.md").read_text()
        assert f"| train | {(~getattr(datasets, kind)['test']).sum()} |" in card
        assert f"| 120 | {datasets.sft.height} | {datasets.dpo.height} |" in card


def test_two_builds_in_two_places_give_the_same_bytes(built: tuple[Path, Datasets], tmp_path: Path) -> None:
    recipe = recipe_over(write_corpus(tmp_path / "modulo.jsonl", questions(120)), dpo={}, split={"order": "shared"})
    twin_build(recipe).run(tmp_path / "elsewhere")
    assert dataset_bytes(tmp_path / "elsewhere") == dataset_bytes(built[0])


def test_no_path_of_this_machine_and_no_clock_is_in_the_folder(built: tuple[Path, Datasets]) -> None:
    run, _ = built
    for name, content in dataset_bytes(run).items():
        for trace in (str(run), str(run.parent), str(Path.home()), str(Path.cwd()), os.uname().nodename):
            assert len(trace) < 4 or trace.encode() not in content, (name, trace)
        if not name.endswith(".parquet"):
            assert not re.search(rb"20[2-9]\d-[01]\d-[0-3]\d|\d\d:\d\d:\d\d", content), name


def test_the_recipe_beside_the_card_keeps_the_last_part_of_a_path(built: tuple[Path, Datasets]) -> None:
    recipe = tomllib.loads((built[0] / "dataset" / "sft" / "recipe.toml").read_text())
    assert recipe["corpora"][0]["path"] == "modulo.jsonl"


def test_the_recipe_beside_the_card_reads_back_as_a_recipe(tmp_path: Path) -> None:
    recipe = recipe_over(Path("embedded:sums.jsonl"), seed=7, split={"order": "ratio", "sft": 0.4})
    assert validate(Recipe, tomllib.loads(recipe_toml(recipe)), "again") == recipe


def test_a_dataset_without_a_row_is_not_written(tmp_path: Path) -> None:
    one = [{"question": "What is 1 modulo 4?", "answer": "never said"}]
    twin_build(recipe_over(write_corpus(tmp_path / "none.jsonl", one), correctness=None, dpo=None)).run(
        tmp_path / "run"
    )
    assert sorted(p.name for p in (tmp_path / "run" / "dataset").iterdir()) == ["sft"]


def test_a_recipe_without_pairs_gives_sft_alone_and_drops_what_it_gave_before(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "modulo.jsonl", questions(40))
    twin_build(recipe_over(corpus, dpo={})).run(tmp_path / "run")
    assert (tmp_path / "run" / "dataset" / "dpo").is_dir()
    datasets = twin_build(recipe_over(corpus, dpo=None)).run(tmp_path / "run")
    assert not (tmp_path / "run" / "dataset" / "dpo").exists()
    assert "DPO" not in (tmp_path / "run" / "dataset" / "sft" / "README.md").read_text().split("## How it was made")[0]
    assert datasets.dpo.is_empty()
