"""What is looked at before the first step, and told in one sentence: rows, weights, folders, options."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from test_train import SMALL, answered, dataset, pairs, trained, turns

from fusedata.errors import ConfigError, EngineError, FusedataError
from fusedata.train.checks import Seen, check_mask
from fusedata.train.run import planned

pytestmark = pytest.mark.model


def test_the_loss_sees_the_response_alone(tmp_path, tiny_model):
    for stage, rows in (("sft", answered(12)), ("dpo", pairs(12))):
        shown: list = []
        trained(dataset(tmp_path / stage, rows), stage, tiny_model, tmp_path / f"{stage}-out", seen=shown)
        assert shown[0].target == "It is 4.<|end|>"
        assert "Say 4." in shown[0].context
        assert "It is" not in shown[0].context


@pytest.mark.parametrize(
    ("context", "target", "fits"),
    [
        ("<u>Say yes.<a>", "yes</a>", True),  # the prompt may say what the response says
        ("<u>Say yes.<a>", "y es</a>", True),  # blanks are moved by some decoders
        ("<u>Say yes.<a>yes", "</a>", False),
        ("<u>Say yes.<a>yes", "yes</a>", False),
    ],
)
def test_a_mask_over_another_text_than_the_response_is_refused(context, target, fits):
    if fits:
        check_mask(Seen(context, target), turns("Say yes.", "user"), "yes")
        return
    with pytest.raises(ConfigError, match="would not see the response alone"):
        check_mask(Seen(context, target), turns("Say yes.", "user"), "yes")


def test_rows_over_the_limit_are_left_out_and_counted(tmp_path, tiny_model):
    rows = [*answered(12), {"messages": turns("x" * 120, "user") + turns("y")}]
    result = trained(dataset(tmp_path / "data", rows), "sft", tiny_model, tmp_path / "out")
    assert result.counts["train rows"] == 9
    assert result.counts["train rows of more than 100 tokens"] == 1


def test_rows_are_cut_where_asked_unless_nothing_of_the_response_is_left(tmp_path, tiny_model):
    long = [{"messages": turns("x" * ask, "user") + turns("y" * answer)} for ask, answer in ((120, 1), (30, 120))]
    data = dataset(tmp_path / "data", [*answered(12), *long])
    result = trained(data, "sft", tiny_model, tmp_path / "out", "longer=cut")
    assert result.counts["train rows of more than 100 tokens"] == 2
    assert result.counts["train rows of so long a prompt, left out"] == 1
    assert json.loads((tmp_path / "out" / "train.json").read_bytes())["rows"]["train"] == 9


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"prompt": turns("a", "user"), "chosen": turns("b"), "rejected": turns("b")}, "are the same"),
        ({"prompt": turns("a", "user"), "chosen": turns("b"), "rejected": turns(" ")}, "its rejected is not"),
        ({"prompt": turns("a", "user"), "chosen": None, "rejected": turns("c")}, "its chosen is not"),
        ({"prompt": None, "chosen": turns("b"), "rejected": turns("c")}, "does not end with a turn of the user"),
        ({"prompt": turns("a"), "chosen": turns("b"), "rejected": turns("c")}, "does not end with a turn of the user"),
        ({"prompt": turns("", "user"), "chosen": turns("b"), "rejected": turns("c")}, "has no text"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused_by_their_place_in_the_dataset(tmp_path, tiny_model, row, word):
    with pytest.raises(ConfigError, match=f"Row 4 of the train split: .*{word}"):
        trained(dataset(tmp_path / "data", [*pairs(8), row]), "dpo", tiny_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_rows_to_train_on_is_told(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match="has no rows to train on"):
        trained(dataset(tmp_path / "data", answered(4), test=4), "sft", tiny_model, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("model.safetensors", b"cut", "transformers cannot load it"),
        ("tokenizer.json", b"{", "transformers cannot load it"),
        ("chat_template.jinja", None, "has no chat template"),
        ("model.safetensors", None, "holds no safetensors weights"),
    ],
)
def test_a_damaged_model_is_told(tmp_path, tiny_model, file, content, word):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / file).unlink()
    if content:
        (model / file).write_bytes(content)
    with pytest.raises((EngineError, ConfigError), match=word):
        trained(dataset(tmp_path / "data", answered(8)), "sft", model, tmp_path / "out")


def test_a_folder_that_holds_something_else_is_not_written_over(tmp_path, tiny_model):
    model, file = tmp_path / "model", tmp_path / "file"
    shutil.copytree(tiny_model, model)
    file.write_text("mine")
    before = (model / "model.safetensors").read_bytes()
    data = dataset(tmp_path / "data", answered(8))
    for out in (model, file):
        with pytest.raises(ConfigError, match="holds something else than a training"):
            trained(data, "sft", model, out)
    assert (model / "model.safetensors").read_bytes() == before
    assert file.read_text() == "mine"


def test_two_datasets_take_two_revisions(tmp_path):
    data = [str(dataset(tmp_path / name, rows)) for name, rows in (("sft", answered(8)), ("dpo", pairs(8)))]
    with pytest.raises(ConfigError, match="--revision stands 1 times, --dataset 2 times"):
        planned(data, "fuse", "llama-3.1-8b", None, revisions=["main"])
    with pytest.raises(ConfigError, match="--dataset stands too often"):
        planned(data, "sft", "llama-3.1-8b", None)
    with pytest.raises(FusedataError, match="holds no preference pairs"):  # read before SFT begins
        planned(data[:1], "fuse", "llama-3.1-8b", None)


def test_pairs_that_dpo_would_refuse_are_told_before_sft_begins(tmp_path, tiny_model):
    bad = {"prompt": turns("a", "user"), "chosen": turns("b"), "rejected": turns("b")}
    data = (dataset(tmp_path / "sft", answered(8)), dataset(tmp_path / "dpo", [*pairs(8), bad]))
    command = [sys.executable, "-m", "fusedata", "train", "--stage", "fuse", "--target", "llama-3.1-8b"]
    command += ["--model", str(tiny_model), "--out", str(tmp_path / "out")]
    command += [word for path in data for word in ("--dataset", str(path))]
    command += [word for override in SMALL for word in ("--set", override)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "RANK": "0"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "chosen and rejected are the same" in done.stderr
    assert not (tmp_path / "out").exists()
