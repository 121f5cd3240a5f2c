"""Whatever is edited in a run, its dataset is the one that a fresh run of the last recipe has."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import dataset_bytes, recipe_over, twin_build, write_corpus

from fusedata.candidates import candidates, run_tables
from fusedata.errors import CorpusError, EngineError
from fusedata.inspect_ import opened
from fusedata.sample.protocol import Completion
from fusedata.schema import KEY
from fusedata.store import read_prompts, read_run
from fusedata.testing import EchoEngine


def corpora(folder: Path) -> None:
    """Two corpora that share a third of their problems, with other golds and other carried answers."""
    for name, first, shift in (("a", 0, 0), ("b", 20, 1)):
        rows = [
            {
                "question": f"Problem {n}?",
                "answer": str((n + shift) % 4),
                "solution": f"{name} says {(n + shift) % 4}" if n % 3 else "  ",
                "other": f"{name} answers {n % 4}",
                "kind": "good" if n % 5 else "bad",
                "score": n / 100 if n % 4 else None,
                "rated": n / 50,
            }
            for n in range(first, first + 30)
            for _ in range(1 + n % 2)
        ]
        write_corpus(folder / f"{name}.jsonl", rows)


def drawn(stream: random.Random, folder: Path) -> dict[str, object]:
    """A recipe at random, and a limit."""

    def corpus(name: str) -> dict[str, object]:
        described: dict[str, Any] = {
            "id": f"test/{name}",
            "path": str(folder / f"{name}.jsonl"),
            "prompt": "question",
            "answer": "answer",
            "responses": {
                "column": stream.choice(["solution", "other"]),
                "source_model": stream.choice(["human", f"author/{name}"]),
            },
            "sampled": stream.random() < 0.6,
        }
        if stream.random() < 0.5:
            judge = stream.choice(["fusedata/hash-reward", "fusedata/hash-reward", "test/another"])
            described["responses"] |= {"reward": {"column": stream.choice(["score", "rated"]), "model": judge}}
        if stream.random() < 0.4:
            described["take"] = stream.choice([5, 12, 25])
        if stream.random() < 0.3:
            described["where"] = {"kind": ["good"]}
        if stream.random() < 0.2:
            described |= {"sampled": True}
            del described["responses"]
        return described

    both = [corpus("a"), corpus("b")]
    if stream.random() < 0.5:
        both.reverse()
    return {
        "corpora": both[: stream.choice([1, 2, 2])],
        "source_models": [{"id": "test/echo", "samples": stream.choice([2, 4])}],
        "dpo": {"reward_gap": stream.choice([[0.01, 0.1], [0.0, 1.0]]), "reward_gap_model": "fusedata/hash-reward"},
        "split": {"order": stream.choice(["pairs_first", "shared"])},
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_run_that_was_edited_gives_the_bytes_of_a_fresh_one(tmp_path, seed):
    corpora(tmp_path)
    stream = random.Random(seed)
    for step in range(5):
        recipe = recipe_over(tmp_path / "a.jsonl", **drawn(stream, tmp_path))
        limit = stream.choice([None, None, 8, 20])
        twin_build(recipe).run(
            tmp_path / "edited", limit=limit, force=stream.choice([[], [], ["prompts"], ["responses"]])
        )
        twin_build(recipe).run(tmp_path / f"fresh{step}", limit=limit)
        assert dataset_bytes(tmp_path / "edited") == dataset_bytes(tmp_path / f"fresh{step}"), step


def test_no_candidate_stands_twice_after_the_corpora_change_places(tmp_path):
    corpora(tmp_path)
    for order in (["a", "b"], ["b", "a"]):
        both = [
            {
                "id": f"test/{name}",
                "path": str(tmp_path / f"{name}.jsonl"),
                "prompt": "question",
                "answer": "answer",
                "responses": {"column": "other", "source_model": "human"},
            }
            for name in order
        ]
        twin_build(recipe_over(tmp_path / "a.jsonl", corpora=both)).run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    rows = candidates(run_tables(run, read_prompts(run)))
    assert rows.height > 0
    assert rows.select(KEY).is_unique().all()


def test_no_candidate_stands_twice_where_two_corpora_carry_the_same_answer_of_one_author(tmp_path):
    rows = [{"question": f"Problem {n}?", "answer": str(n), "solution": f"The answer is {n}."} for n in range(6)]
    described = {"prompt": "question", "answer": "answer", "sampled": False}
    described["responses"] = {"column": "solution", "source_model": "human"}
    both = [
        {"id": f"test/{name}", "path": str(write_corpus(tmp_path / f"{name}.jsonl", rows)), **described}
        for name in "ab"
    ]
    for order in (both, both[::-1]):
        recipe = recipe_over(tmp_path / "a.jsonl", corpora=order, source_models=[])
        twin_build(recipe).run(tmp_path / "run")
    twin_build(recipe).run(tmp_path / "fresh")
    run = read_run(tmp_path / "run")
    assert candidates(run_tables(run, read_prompts(run))).select(KEY).is_unique().all()
    assert dataset_bytes(tmp_path / "run") == dataset_bytes(tmp_path / "fresh")
    tables = opened(tmp_path / "run").tables
    assert all(tables[name].select(KEY).collect().height == 6 for name in ("responses", "verdicts", "rewards"))


@pytest.mark.parametrize("table", ["prompts", "responses", "verdicts", "rewards"])
def test_a_table_that_was_deleted_is_made_again(tmp_path, table):
    corpora(tmp_path)
    recipe = recipe_over(tmp_path / "a.jsonl", **drawn(random.Random(4), tmp_path))
    twin_build(recipe).run(tmp_path / "run")
    before = dataset_bytes(tmp_path / "run")
    for part in (tmp_path / "run" / table).glob("*/part-*"):
        part.unlink()
    twin_build(recipe).run(tmp_path / "run")
    assert dataset_bytes(tmp_path / "run") == before


def test_a_broken_funnel_is_made_again(modulo, tmp_path):
    twin_build(modulo).run(tmp_path / "run")
    before = dataset_bytes(tmp_path / "run")
    (funnel,) = (tmp_path / "run").glob("prompts/*/funnel.json")
    funnel.write_text("{")
    twin_build(modulo).run(tmp_path / "run")
    assert dataset_bytes(tmp_path / "run") == before


class Moody(EchoEngine):
    """Gives other texts each time it is asked, as servers do."""

    mood = 0

    def identity(self):
        return {"engine": "moody"}

    def _answer(self, request):
        return Completion(f"The answer is {(request.seed + Moody.mood) % 4}.", "stop")


def test_verdicts_and_rewards_of_texts_that_are_gone_are_not_used(modulo, tmp_path):
    twin_build(modulo, Moody()).run(tmp_path / "run")
    Moody.mood += 1
    for part in (tmp_path / "run").glob("responses/*/part-*"):
        part.unlink()
    built = twin_build(modulo, Moody()).run(tmp_path / "run")
    right = built.dpo["chosen"].list.first().struct.field("content").str.extract(r"(\d)")
    prompts = read_prompts(read_run(tmp_path / "run")).select("prompt_id", "answer")
    golds = built.dpo.select("prompt_id").join(prompts, on="prompt_id", maintain_order="left")["answer"]
    assert right.to_list() == golds.to_list()


class Forgets(EchoEngine):
    """Leaves requests without an answer."""

    def generate(self, batches):
        for group in super().generate(batches):
            yield group[1:]


def test_an_engine_that_forgets_a_request_is_found_out(modulo, tmp_path):
    with pytest.raises(EngineError, match="left 60 requests without an answer"):
        twin_build(modulo, Forgets()).run(tmp_path / "run")


class TooLong(EchoEngine):
    """Cannot take any prompt."""

    def _answer(self, request):
        return Completion(None, "too_long", 500, error="the prompt has 500 tokens, and the model's context is 128")


def test_a_prompt_that_is_too_long_is_a_row_with_a_reason_and_not_asked_again(modulo, tmp_path):
    first, second = TooLong(), TooLong()
    twin_build(modulo, first).run(tmp_path / "run")
    twin_build(modulo, second).run(tmp_path / "run")
    assert len(first.asked) == 40 * 6
    assert second.asked == []
    rows = pl.read_parquet(tmp_path / "run" / "responses" / "*" / "*.parquet")
    assert rows["error"].null_count() == 0


@pytest.mark.parametrize("value", [5, [["a"]], {"b": 1}])
def test_carried_responses_that_are_no_text_are_refused(tmp_path, value):
    path = write_corpus(tmp_path / "c.jsonl", [{"question": "One?", "answer": "1", "solution": value}])
    corpus = {"id": "test/c", "path": str(path), "prompt": "question", "answer": "answer"}
    corpus |= {"responses": {"column": "solution", "source_model": "human"}}
    with pytest.raises(CorpusError, match=r"its column 'solution' holds .*, not text"):
        twin_build(recipe_over(path, corpora=[corpus])).run(tmp_path / "run")


def test_a_blank_carried_response_is_never_published(tmp_path):
    rows = [{"question": "One?", "answer": "1", "solution": s} for s in ("The answer is 1.", " \n ", "It is 2.")]
    path = write_corpus(tmp_path / "c.jsonl", rows)
    corpus = {"id": "test/c", "path": str(path), "prompt": "question", "answer": "answer", "sampled": False}
    corpus |= {"responses": {"column": "solution", "source_model": "human"}}
    recipe = recipe_over(
        path,
        corpora=[corpus],
        source_models=[],
        dpo={"reward_gap": [-1.0, 1.0], "reward_gap_model": "fusedata/hash-reward"},
    )
    built = twin_build(recipe).run(tmp_path / "run")
    assert built.dpo["rejected"].to_list() == [[{"role": "assistant", "content": "It is 2."}]]


def test_added_samples_and_models_are_told_before_they_are_drawn(modulo, tmp_path):
    from test_build import Recorder

    twin_build(modulo).run(tmp_path / "run")
    models = [{"id": "test/echo", "samples": 8}, {"id": "test/second", "samples": 2}]
    recorder = Recorder()
    twin_build(recipe_over(Path(modulo.corpora[0].path), source_models=models), reporter=recorder).run(tmp_path / "run")
    _, redone = recorder.changes[0]
    assert "responses of test/echo: 2 more samples a prompt" in redone
    assert "responses of test/second: new" in redone
