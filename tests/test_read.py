"""Rows out of corpora: every shape of file, one type a column, flat memory, and one sentence for all that is broken."""

import gzip
import json
import os
import subprocess
import sys
from decimal import Decimal
from functools import reduce
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusedata.collect import parquet_columns
from fusedata.collect.column_types import MixedTypesError, common, infer
from fusedata.collect.locate import Located, locate
from fusedata.collect.read import scan, scan_lazy
from fusedata.errors import CorpusError

SHARED = Path(os.environ.get("FUSEDATA_SHARED", Path(__file__).parents[2] / "shared"))
CORPORA = SHARED / "corpora"
with_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="the shared corpora are not here (FUSEDATA_SHARED)")

MAGPIE = (
    "uuid instruction gen_input_configs intent knowledge difficulty input_quality quality_explanation task_category "
    "input_length responses gen_response_configs gen_response_configs.output_generator rewards_armorm chosen rejected"
)
ZH = (
    "uuid model gen_input_configs gen_input_configs.seed instruction response conversations task_category "
    "other_task_category task_category_generator difficulty intent knowledge difficulty_generator input_quality "
    "quality_explanation quality_generator llama_guard_2 reward_model instruct_reward min_neighbor_distance "
    "repeat_count min_similar_uuid instruction_length response_length language"
)
OPEN_MATH = "problem generated_solution expected_answer problem_source"
HELP = "prompt response helpfulness correctness coherence complexity verbosity"
PREFERENCE = "split prompt response_1 response_2 preference_strength preference_statement preference_elaboration"
ULTRA = "source instruction models completions correct_answers incorrect_answers"
LAYOUT = [
    ("nvidia/OpenMathInstruct-2", (), "train", OPEN_MATH, 301),
    ("nvidia/OpenMathInstruct-2", (), "train_1M", OPEN_MATH, 100),
    ("nvidia/OpenMathInstruct-2", (), "train_2M", OPEN_MATH, 100),
    ("nvidia/OpenMathInstruct-2", (), "train_5M", OPEN_MATH, 100),
    ("nvidia/HelpSteer2", (), "train", HELP, 282),
    ("nvidia/HelpSteer2", (), "validation", HELP, 40),
    ("nvidia/HelpSteer2", ("preference/preference.jsonl.gz",), "train", PREFERENCE, 160),
    ("nvidia/HelpSteer2", ("disagreements/*",), "train", HELP, 59),
    ("openbmb/UltraFeedback", ("*.jsonl",), "train", ULTRA, 225),
    ("Magpie-Align/Magpie-Pro-DPO-100K-v0.1", (), "train", MAGPIE, 170),
    ("Magpie-Align/Magpie-Pro-DPO-100K-v0.1", (), "test", MAGPIE, 15),
    ("Magpie-Align/Magpie-Llama-3.1-Pro-DPO-100K-v0.1", (), "train", MAGPIE, 170),
    ("Magpie-Align/Magpie-Llama-3.1-Pro-DPO-100K-v0.1", (), "test", MAGPIE, 15),
    ("Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese", (), "train", ZH, 704),
    (
        "greengerong/leetcode",
        ("leetcode-train.jsonl",),
        "train",
        "id slug title difficulty content java c++ python javascript",
        194,
    ),
    (
        "bigcode/self-oss-instruct-sc2-exec-filter-50k",
        (),
        "train",
        "fingerprint sha1 seed response concepts prompt instruction id",
        513,
    ),
    ("llamafactory/alpaca_gpt4_zh", ("alpaca_gpt4_data_zh.json",), "train", "instruction input output", 1000),
    (
        "princeton-nlp/llama3-ultrafeedback-armorm",
        (),
        "train",
        "prompt_id prompt all_generated_responses all_rm_scores chosen rejected",
        135,
    ),
    ("princeton-nlp/llama3-ultrafeedback-armorm", (), "test", "prompt_id prompt all_rm_scores", 20),
]
OTHERS = [
    ("math/gsm8k-train.jsonl", "question answer", 7473),
    ("math/openmathinstruct2-train_1M-first100.jsonl", OPEN_MATH, 100),
    ("code/mbpp.jsonl", "text code test_list task_id", 974),
    ("code/LeetCodeDataset-v0.2.0-train.jsonl.gz", "task_id entry_point test completion", 1890),
    ("preference/dpo_zh_demo.json", "conversations chosen rejected", 300),
    ("instructions/seed_tasks.jsonl", "id instruction instances", 175),
    ("benchmarks/math-500.jsonl", "problem answer", 500),
    ("benchmarks/HumanEval.jsonl.gz", "task_id prompt test", 164),
]


def corpus(folder: Path, *names: str) -> Located:
    """The corpus a/b of these files, whatever is in them."""
    return Located("a/b", "folder", "sha256:0", tuple(folder / name for name in names), names)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(located: Located, *columns: str, **options: int) -> pl.DataFrame:
    return pl.concat(scan(located, columns, **options))


def refusal(located: Located, *columns: str) -> str:
    """What the one sentence says when the corpus is read."""
    with pytest.raises(CorpusError) as caught:
        read(located, *columns)
    message = str(caught.value)
    assert message.startswith("Corpus a/b"), message
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@with_corpora
@pytest.mark.parametrize(("name", "files", "split", "columns", "rows"), LAYOUT)
def test_corpus_in_hub_layout_reads_with_its_columns_and_row_count(name, files, split, columns, rows):
    located = locate(name, files=files, split=split, mirror=CORPORA / "hub_layout")
    frame = read(located, *columns.split())
    assert frame.columns == [*columns.split(), "file", "row"]
    assert frame["row"].to_list() == list(range(rows))
    assert set(frame["file"]) == set(located.names)


@with_corpora
@pytest.mark.parametrize(("path", "columns", "rows"), OTHERS)
def test_other_real_file_reads_with_its_row_count(path, columns, rows):
    located = locate("a/b", files=(), split="train", path=CORPORA / path)
    assert read(located, *columns.split()).height == rows


@with_corpora
def test_lazy_frame_equals_the_scanned_frames():
    name = "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese"
    located = locate(name, files=(), split="train", mirror=CORPORA / "hub_layout")
    columns = ["instruction", "conversations", "gen_input_configs.input_generator", "gen_input_configs.seed"]
    lazy = scan_lazy(located, columns)
    assert lazy is not None
    assert pl.concat(lazy).collect(engine="streaming").equals(read(located, *columns).drop("file"))


def test_lazy_frame_is_none_where_a_file_is_not_parquet(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1})
    assert scan_lazy(corpus(tmp_path, "a.jsonl"), ["x"]) is None


def test_lazy_frame_of_damaged_pages_is_a_corpus_error_inside_explained(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [str(i) * 9 for i in range(9000)]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(content)
    located = corpus(tmp_path, "a.parquet")
    lazy = scan_lazy(located, ["x"])
    assert lazy is not None
    with (
        pytest.raises(
            CorpusError, match=r"^Corpus a/b, file a.parquet: it is damaged .* Fetch or write .*a.parquet again"
        ),
        parquet_columns.explained(located),
    ):
        pl.concat(lazy).collect(engine="streaming")


# --- shapes of files ------------------------------------------------------------------------------------------


def test_rows_are_counted_over_all_files_in_order(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1}, {"x": 2})
    pl.DataFrame({"x": [3, 4]}).write_parquet(tmp_path / "b.parquet")
    frame = read(corpus(tmp_path, "a.jsonl", "b.parquet"), "x")
    assert frame.rows() == [(1, "a.jsonl", 0), (2, "a.jsonl", 1), (3, "b.parquet", 2), (4, "b.parquet", 3)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.json"])
def test_no_frame_has_more_rows_than_asked_for(tmp_path, name):
    rows = [{"x": i} for i in range(10)]
    if name == "a.parquet":
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows)))
    heights = [frame.height for frame in scan(corpus(tmp_path, name), ["x"], batch_rows=4)]
    assert heights == [4, 4, 2]


def test_rows_are_counted_on_from_frame_to_frame(tmp_path):
    lines(tmp_path / "a.jsonl", *({"x": i} for i in range(5)))
    lines(tmp_path / "b.jsonl", {"x": 5})
    frame = read(corpus(tmp_path, "a.jsonl", "b.jsonl"), "x", batch_rows=2)
    assert frame["row"].to_list() == frame["x"].to_list() == list(range(6))


def test_a_wide_json_row_ends_a_batch_early(tmp_path):
    lines(tmp_path / "a.jsonl", *({"x": "y" * 5_000_000} for _ in range(8)))
    assert [frame.height for frame in scan(corpus(tmp_path, "a.jsonl"), ["x"])] == [4, 4]


def test_a_wide_parquet_row_ends_a_batch_early(tmp_path):
    values = [os.urandom(2_500_000).hex() for _ in range(30)]
    pl.DataFrame({"x": values}).write_parquet(tmp_path / "a.parquet")
    heights = [frame.height for frame in scan(corpus(tmp_path, "a.parquet"), ["x"])]
    assert sum(heights) == 30
    assert max(heights) < 30


def test_gz_and_zst_read_like_the_plain_file(tmp_path):
    plain = lines(tmp_path / "a.jsonl", {"x": 1}, {"x": 2})
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.output_stream(tmp_path / "a.jsonl.zst", compression="zstd") as stream:
        stream.write(plain.read_bytes())
    expected = [1, 2]
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        assert read(corpus(tmp_path, name), "x")["x"].to_list() == expected


def test_json_file_that_holds_lines_reads_as_lines(tmp_path):
    lines(tmp_path / "a.json", {"x": 1}, {"x": 2})
    assert read(corpus(tmp_path, "a.json"), "x")["x"].to_list() == [1, 2]


def test_jsonl_file_that_holds_an_array_reads_as_an_array(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps([{"x": 1}, {"x": 2}]))
    assert read(corpus(tmp_path, "a.jsonl"), "x")["x"].to_list() == [1, 2]


@pytest.mark.parametrize("indent", [None, 2])
def test_array_elements_with_brackets_and_quotes_in_text_are_found(tmp_path, indent):
    rows = [{"x": 'a "quoted" ]}[{ \\ text', "y": [[1], {"z": "}"}]}, {"x": "\\", "y": []}, {"x": "", "y": None}]
    (tmp_path / "a.json").write_text("\n " + json.dumps(rows, indent=indent) + "\n")
    assert read(corpus(tmp_path, "a.json"), "x")["x"].to_list() == [row["x"] for row in rows]


def test_array_much_longer_than_a_read_is_whole(tmp_path):
    rows = [{"x": f"{i}" + "é[" * (i % 70) * 9, "y": i} for i in range(5000)]
    rows[7]["x"] = "{" * 3_000_000
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    frame = read(corpus(tmp_path, "a.json"), "x", "y")
    assert frame.select("x", "y").to_dicts() == rows


def test_byte_order_mark_and_blank_lines_and_crlf_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"x": 1}\r\n\r\n   \n{"x": 2}')
    assert read(corpus(tmp_path, "a.jsonl"), "x")["x"].to_list() == [1, 2]


def test_byte_order_mark_before_an_array_is_no_row(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf [{"x": 1}]')
    assert read(corpus(tmp_path, "a.json"), "x")["x"].to_list() == [1]


def test_no_column_but_file_and_row_can_be_read(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1})
    pl.DataFrame({"x": [3, 4]}).write_parquet(tmp_path / "b.parquet")
    assert read(corpus(tmp_path, "a.jsonl", "b.parquet")).rows() == [("a.jsonl", 0), ("b.parquet", 1), ("b.parquet", 2)]


# --- columns and their types ----------------------------------------------------------------------------------


def test_dotted_column_is_a_path_into_structs(tmp_path):
    rows = [{"a": {"b": {"c": 1}}}, {"a": {"b": None}}, {"a": None}]
    lines(tmp_path / "a.jsonl", *rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        frame = read(corpus(tmp_path, name), "a.b.c")
        assert frame["a.b.c"].to_list() == [1, None, None]


def test_column_spelt_with_a_dot_comes_before_the_path(tmp_path):
    rows = [{"a.b": "spelt", "a": {"b": "path"}}]
    lines(tmp_path / "a.jsonl", *rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        assert read(corpus(tmp_path, name), "a.b")["a.b"].to_list() == ["spelt"]


def test_key_that_some_rows_lack_is_null(tmp_path):
    lines(tmp_path / "a.jsonl", {"y": 1}, {"x": "later", "y": 2})
    assert read(corpus(tmp_path, "a.jsonl"), "x")["x"].to_list() == [None, "later"]


def test_key_that_only_the_second_file_has_is_null_in_the_first(tmp_path):
    lines(tmp_path / "a.jsonl", {"y": 1})
    lines(tmp_path / "b.jsonl", {"x": [1]})
    assert read(corpus(tmp_path, "a.jsonl", "b.jsonl"), "x")["x"].to_list() == [None, [1]]


def test_column_that_is_null_throughout_reads_as_null(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": None}, {"x": None})
    assert read(corpus(tmp_path, "a.jsonl"), "x").schema["x"] == pl.Null


def test_whole_numbers_beside_decimals_are_decimals_in_every_frame(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1}, {"x": 2})
    lines(tmp_path / "b.jsonl", {"x": 2.5}, {"x": 3})
    frames = list(scan(corpus(tmp_path, "a.jsonl", "b.jsonl"), ["x"], batch_rows=1))
    assert {frame.schema["x"] for frame in frames} == {pl.Float64()}


def test_whole_numbers_beside_decimals_inside_lists_are_decimals(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": [{"score": 1}]}, {"x": [{"score": 0.5}, {"why": "?"}]})
    frame = read(corpus(tmp_path, "a.jsonl"), "x", batch_rows=1)
    assert frame["x"].to_list()[1] == [{"score": 0.5, "why": None}, {"score": None, "why": "?"}]
    assert frame["x"].to_list()[0] == [{"score": 1.0, "why": None}]


def test_parquet_files_of_different_numbers_read_as_one_type(tmp_path):
    pl.DataFrame({"x": [1]}, schema={"x": pl.Int32}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"x": [2.5]}, schema={"x": pl.Float32}).write_parquet(tmp_path / "b.parquet")
    located = corpus(tmp_path, "a.parquet", "b.parquet")
    lazy = scan_lazy(located, ["x"])
    assert read(located, "x")["x"].to_list() == [1.0, 2.5]
    assert lazy is not None
    assert pl.concat(lazy).collect().equals(read(located, "x").drop("file"))


def test_parquet_files_of_which_some_have_more_columns_read_in_order(tmp_path):
    for name, more in (("a", {}), ("b", {}), ("c", {"y": [0, 0]}), ("d", {})):
        pl.DataFrame({"x": [f"{name}0", f"{name}1"], **more}).write_parquet(tmp_path / f"{name}.parquet")
    located = corpus(tmp_path, *(f"{name}.parquet" for name in "abcd"))
    lazy = scan_lazy(located, ["x"])
    assert lazy is not None
    assert [frame.select(pl.len()).collect().item() for frame in lazy] == [4, 2, 2]
    assert pl.concat(lazy).collect().equals(read(located, "x").drop("file"))


def test_parquet_categories_read_as_text(tmp_path):
    table = pa.table({"x": pa.array(["a", "b", "a"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(corpus(tmp_path, "a.parquet"), "x").schema["x"] == pl.String


def test_parquet_column_that_is_null_in_one_file_takes_the_type_of_the_other(tmp_path):
    pq.write_table(pa.table({"x": pa.nulls(2)}), tmp_path / "a.parquet")
    pl.DataFrame({"x": ["t"]}).write_parquet(tmp_path / "b.parquet")
    assert read(corpus(tmp_path, "a.parquet", "b.parquet"), "x")["x"].to_list() == [None, None, "t"]


def test_lone_surrogate_escapes_become_replacement_characters(tmp_path):
    row = rb'{"x": "cut \ud83d here \ude00, whole \ud83d\ude00, spelt \\ud800, upper \uD800"}'
    (tmp_path / "a.jsonl").write_bytes(row)
    text = read(corpus(tmp_path, "a.jsonl"), "x")["x"].item()
    assert text == "cut \ufffd here \ufffd, whole \U0001f600, spelt \\ud800, upper \ufffd"


def test_columns_that_are_not_asked_for_may_be_of_any_types(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1, "mixed": 1}, {"x": 2, "mixed": "a"}, {"x": 3, "mixed": [{}]})
    assert read(corpus(tmp_path, "a.jsonl"), "x")["x"].to_list() == [1, 2, 3]


# --- what is refused, each in one sentence --------------------------------------------------------------------


def test_missing_parquet_column_is_refused_with_those_that_are_there(tmp_path):
    pl.DataFrame({"x": [1], "y": [2]}).write_parquet(tmp_path / "a.parquet")
    message = refusal(corpus(tmp_path, "a.parquet"), "z")
    assert message == "Corpus a/b, file a.parquet: there is no column 'z'. Its columns are x, y."


def test_missing_json_column_is_refused_with_those_that_are_there(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1, "y": 2})
    message = refusal(corpus(tmp_path, "a.jsonl"), "z")
    assert message == "Corpus a/b, file a.jsonl: there is no column 'z'. Its columns are x, y."


def test_missing_field_of_a_struct_is_refused(tmp_path):
    pl.DataFrame({"x": [{"a": 1}]}).write_parquet(tmp_path / "a.parquet")
    assert "there is no column 'x.b'" in refusal(corpus(tmp_path, "a.parquet"), "x.b")


def test_dotted_column_is_a_path_into_structs_in_lists(tmp_path):
    rows = [
        {"x": [{"a": 1, "b": {"c": ["p"]}}, {"a": None, "b": None}]},
        {"x": []},
        {"x": None},
        {"x": [{"a": 2, "b": {"c": None}}]},
    ]
    lines(tmp_path / "a.jsonl", *rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        frame = read(corpus(tmp_path, name), "x.a", "x.b.c")
        assert frame["x.a"].to_list() == [[1, None], [], None, [2]]
        assert frame["x.b.c"].to_list() == [[["p"], None], [], None, [None]]
    lazy = scan_lazy(corpus(tmp_path, "b.parquet"), ["x.b.c"])
    assert lazy is not None
    assert pl.concat(lazy).collect()["x.b.c"].to_list() == [[["p"], None], [], None, [None]]


def test_path_into_a_list_of_anything_but_structs_is_refused(tmp_path):
    pl.DataFrame({"x": [[1]]}).write_parquet(tmp_path / "a.parquet")
    assert "there is no column 'x.a'" in refusal(corpus(tmp_path, "a.parquet"), "x.a")


def test_path_into_json_text_is_refused_with_its_line(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": {"a": 1}}, {"x": "text"})
    message = refusal(corpus(tmp_path, "a.jsonl"), "x.a")
    assert "a.jsonl, line 2: the path 'x.a' leads into 'text', which is no object" in message


def test_column_asked_for_twice_is_refused(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1})
    assert "the column 'x' is asked for twice" in refusal(corpus(tmp_path, "a.jsonl"), "x", "x")


@pytest.mark.parametrize("name", ["file", "row"])
def test_column_of_a_name_that_fusedata_adds_is_refused(tmp_path, name):
    lines(tmp_path / "a.jsonl", {name: 1})
    assert f"a column '{name}' cannot be read" in refusal(corpus(tmp_path, "a.jsonl"), name)


def test_parquet_file_with_a_column_twice_is_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), tmp_path / "a.parquet")
    assert "there is more than one column 'x'" in refusal(corpus(tmp_path, "a.parquet"), "x")


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("a", 1, "column 'x' holds 1 where the rows before hold text"),
        (1, "a", "column 'x' holds 'a' where the rows before hold whole numbers"),
        (True, 1, "column 'x' holds 1 where the rows before hold true or false"),
        (["a"], "a", "column 'x' holds 'a' where the rows before hold lists of text"),
        ({"k": 1}, ["a"], "column 'x' holds ['a'] where the rows before hold objects with the keys k"),
        ({"k": [1]}, {"k": ["a"]}, "column 'x' holds {'k': ['a']} where the rows before hold objects with the keys k"),
        (1, 2**63, "column 'x' holds 9223372036854775808 where the rows before hold whole numbers"),
    ],
)
def test_mixed_json_types_are_refused_at_their_line(tmp_path, first, second, found):
    lines(tmp_path / "a.jsonl", {"x": first}, {"x": None}, {"x": second})
    assert f"file a.jsonl, line 3: {found}." in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_mixed_json_types_in_a_later_file_are_refused_there(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 1})
    lines(tmp_path / "b.jsonl", {"x": "a"})
    assert "file b.jsonl, line 1: column 'x' holds 'a'" in refusal(corpus(tmp_path, "a.jsonl", "b.jsonl"), "x")


def test_mixed_json_types_are_refused_before_any_row_is_read(tmp_path):
    lines(tmp_path / "a.jsonl", *({"x": i} for i in range(100)), {"x": "a"})
    with pytest.raises(CorpusError, match="line 101"):
        scan(corpus(tmp_path, "a.jsonl"), ["x"], batch_rows=10)


def test_mixed_parquet_types_are_refused(tmp_path):
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"x": ["t"]}).write_parquet(tmp_path / "b.parquet")
    message = refusal(corpus(tmp_path, "a.parquet", "b.parquet"), "x")
    assert "file b.parquet: column 'x' holds text where the files before hold whole numbers" in message


def test_parquet_structs_of_other_fields_are_refused(tmp_path):
    pl.DataFrame({"x": [{"a": 1}]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"x": [{"b": 1}]}).write_parquet(tmp_path / "b.parquet")
    message = refusal(corpus(tmp_path, "a.parquet", "b.parquet"), "x")
    assert "file b.parquet: column 'x' holds objects with the keys b where" in message


def test_mapping_with_a_key_for_each_row_is_refused(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": {str(i): i for i in range(2000)}})
    assert "line 1: column 'x' holds" in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_whole_number_too_exact_for_a_decimal_is_refused(tmp_path):
    lines(tmp_path / "a.jsonl", {"x": 2**53 + 1}, {"x": 0.5})
    assert "column 'x' does not hold numbers" in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_mapping_with_other_keys_in_each_row_is_refused(tmp_path):
    lines(tmp_path / "a.jsonl", *({"x": {f"{i}-{j}": 1 for j in range(100)}} for i in range(30)))
    assert "line 11: column 'x' holds" in refusal(corpus(tmp_path, "a.jsonl"), "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def inferred(*types: pl.DataType | None) -> pl.DataType | None:
    """The common type, None where there is none."""
    try:
        return reduce(common, types, pl.Null())  # type: ignore[arg-type]
    except MixedTypesError:
        return None


def type_of(values: list[object]) -> pl.DataType | None:
    try:
        return infer(values)
    except MixedTypesError:
        return None


@given(st.lists(JSON, max_size=6))
def test_type_of_rows_is_what_their_own_types_have_in_common(values):
    types = [type_of([value]) for value in values]
    assert type_of(values) == (None if None in types else inferred(*types))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.jsonl.gz"])
def test_missing_file_is_refused(tmp_path, name):
    assert f"file {name}: it is not at {tmp_path / name}" in refusal(corpus(tmp_path, name), "x")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.jsonl.gz"])
def test_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert f"file {name}: it is empty (0 bytes)" in refusal(corpus(tmp_path, name), "x")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_folder_in_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    assert f"file {name}: it is a folder, not a file" in refusal(corpus(tmp_path, name), "x")


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b"\n \n"), ("a.json", b"[ ]"), ("a.json", b" ")])
def test_json_file_without_rows_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert f"file {name}: it has no rows" in refusal(corpus(tmp_path, name), "x")


def test_parquet_file_without_rows_is_refused(tmp_path):
    pl.DataFrame({"x": []}).write_parquet(tmp_path / "a.parquet")
    assert "file a.parquet: it has no rows" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_file_of_another_ending_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert "file a.csv: its ending is not one that can be read" in refusal(corpus(tmp_path, "a.csv"), "x")


def test_corpus_without_files_is_refused(tmp_path):
    assert "has no files" in refusal(corpus(tmp_path), "x")


def test_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "a.jsonl").symlink_to("a.jsonl")
    assert "file a.jsonl: it cannot be opened" in refusal(corpus(tmp_path, "a.jsonl"), "x")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_git_lfs_pointer_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "it is a Git LFS pointer" in refusal(corpus(tmp_path, name), "x")


def test_parquet_file_without_its_end_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": list(range(1000))}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "file a.parquet: it is cut off" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_parquet_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("<html>not found</html>")
    assert "file a.parquet: it is not a Parquet file" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_damaged_parquet_page_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [str(i) * 9 for i in range(9000)]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(content)
    assert "file a.parquet: it is damaged" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_flipped_bit_in_a_checksummed_parquet_page_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"x": pa.array(range(9000))})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[30_000] ^= 1
    path.write_bytes(content)
    assert "file a.parquet: it is damaged" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_parquet_type_that_polars_lacks_is_refused(tmp_path):
    pq.write_table(pa.table({"x": pa.array([Decimal(1)], pa.decimal256(60))}), tmp_path / "a.parquet")
    assert "file a.parquet: polars cannot hold its columns" in refusal(corpus(tmp_path, "a.parquet"), "x")


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path):
    offsets = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ok\xff\xfe")])
    pq.write_table(pa.table({"x": text}), tmp_path / "a.parquet")
    assert "file a.parquet: it holds text that is not UTF-8" in refusal(corpus(tmp_path, "a.parquet"), "x")


@pytest.mark.parametrize("cut", [1, 30, 300])
def test_gz_file_that_is_cut_off_is_refused(tmp_path, cut):
    rows = "".join(json.dumps({"x": os.urandom(9).hex()}) + "\n" for _ in range(500))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-cut])
    assert "its compressed data are cut off" in refusal(corpus(tmp_path, "a.jsonl.gz"), "x")


def test_zst_file_that_is_cut_off_is_refused(tmp_path):
    with pa.output_stream(tmp_path / "a.jsonl.zst", compression="zstd") as stream:
        stream.write(b"".join(b'{"x": "%s"}\n' % os.urandom(9).hex().encode() for _ in range(5000)))
    (tmp_path / "b.jsonl.zst").write_bytes((tmp_path / "a.jsonl.zst").read_bytes()[:-300])
    assert "its compressed data are cut off" in refusal(corpus(tmp_path, "b.jsonl.zst"), "x")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path, name):
    lines(tmp_path / name, {"x": 1})
    assert f"file {name}: it" in refusal(corpus(tmp_path, name), "x")


def test_gz_file_with_damaged_data_is_refused(tmp_path):
    content = bytearray(gzip.compress(b'{"x": "abcdefghijklmnop"}\n' * 1000))
    content[40] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    assert "it is not a sound gzip file" in refusal(corpus(tmp_path, "a.jsonl.gz"), "x")


def test_json_line_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x": "abc')
    assert "file a.jsonl, line 2: the file is cut off in the middle of it" in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_json_line_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": NaN}\n{"x": 2}\n')
    assert "file a.jsonl, line 3: it is not JSON" in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_json_line_with_a_broken_escape_beside_a_lone_surrogate_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"x": "\\ud800 \\q"}\n')
    assert "line 1: it is not JSON" in refusal(corpus(tmp_path, "a.jsonl"), "x")


@pytest.mark.parametrize("row", ["1", '"text"', "null", "{} {}"])
def test_json_line_that_is_no_object_is_refused(tmp_path, row):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n' + row + "\n")
    assert "file a.jsonl, line 2: it is not " in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_json_line_that_is_not_utf8_is_refused_with_line_and_byte(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"x": 1}\n{"x": "caf\xe9"}\n')
    assert "file a.jsonl, line 2: byte 11 of it is not UTF-8" in refusal(corpus(tmp_path, "a.jsonl"), "x")


def test_json_array_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": 1}, {"x": 2}, {"x": "abc')
    assert "file a.json: its array is cut off after element 2" in refusal(corpus(tmp_path, "a.json"), "x")


@pytest.mark.parametrize("array", ["[1]", '["a"]', "[[1]]", '[{"x": 1} {"x": 2}]', '[{"x": 1}, 5, {"x": 2}]', "[}]"])
def test_json_array_of_anything_but_objects_is_refused(tmp_path, array):
    (tmp_path / "a.json").write_text(array)
    assert "an object is missing here" in refusal(corpus(tmp_path, "a.json"), "x")


def test_json_array_with_something_behind_it_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('[{"x": 1}]\n[{"x": 2}]')
    assert "something follows its JSON array" in refusal(corpus(tmp_path, "a.json"), "x")


def test_json_array_element_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'[{"x": "a"}, {"x": "\xff"}]')
    assert "file a.json, element 2: byte 8 of it is not UTF-8" in refusal(corpus(tmp_path, "a.json"), "x")


# --- memory ---------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from pathlib import Path
from fusedata.collect.locate import Located
from fusedata.collect.read import scan
path, times = Path(sys.argv[1]), int(sys.argv[2])
names = tuple(f"{i}{path.name[1:]}" for i in range(times))
rows = sum(frame.height for frame in scan(Located("a/b", "folder", "", (path,) * times, names), ["x"]))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json"])
def test_memory_stays_flat_when_the_corpus_grows(tmp_path, name):
    rows = [{"x": f"{i} " + "some words of a problem " * 40} for i in range(60_000)]  # 60 MB
    if name == "a.parquet":
        pl.DataFrame(rows).write_parquet(tmp_path / name, row_group_size=20_000)
    else:
        text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
        (tmp_path / name).write_text(text)
    peaks = []
    for times in (1, 5):
        command = [sys.executable, "-c", PEAK, str(tmp_path / name), str(times)]
        count, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(count) == 60_000 * times
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 100, peaks
