"""Corpora as a recipe names them: where prompts come from, and which columns hold what."""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from fusedata.config import Model

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Count = Annotated[int, Field(gt=0, lt=2**31)]


class CarriedReward(Model):
    """Rewards that the corpus holds for the responses that it carries: they are used, not paid for again."""

    column: Text
    """The column of the rewards: a number a response, in the order of the responses; null: it has none."""
    model: Text
    """The reward model that gave them; they count where the recipe's `[reward]` names the same one."""


class Carried(Model):
    """Responses that the corpus itself holds: they are used, not sampled."""

    column: Text
    """The column of the responses: one text a row, a list of them, or a conversation that the assistant ends."""
    source_model: Text
    """Who wrote them: the hub id of a model, or `human`."""
    license: Text | None = None
    reward: CarriedReward | None = None


class UnitTests(Model):
    """The unit tests of a corpus: which columns hold them, and in what form."""

    form: Literal["asserts", "check", "instruction", "leetcode"]
    """`asserts`: a list of asserts, or one text of them. `check`: source of `check(candidate)`. `instruction`: asserts
    in a block at the end of the prompt ("Your code should pass the following …"). `leetcode`: the examples of a
    statement, called as the solution is; the prompt ends with the signature that is to be filled in."""
    column: Text
    entry_point: Text | None = Field(default=None, validate_default=True)
    """The column that names what a check calls: `f` or `Solution().f`."""
    setup: Text | None = None
    """The column of code to run between program and tests."""
    preamble: Text | None = None
    """The column of code to run before the program: imports that it may rely on."""
    solution: Text | None = Field(default=None, validate_default=True)
    """The column of a program that is known to be right; rows whose solution fails their tests are dropped."""
    shown: bool = False
    """End the prompt with the asserts, where the corpus's text does not say what the function is called."""

    @field_validator("entry_point", "solution")
    @classmethod
    def _needed(cls, column: str | None, info: ValidationInfo) -> str | None:
        needed = {"entry_point": ("check", "calls"), "solution": ("leetcode", "takes the signature from")}
        form, why = needed[str(info.field_name)]
        if column is None and info.data.get("form") == form:
            raise ValueError(f'form = "{form}" needs it: the column that it {why}')
        return column

    @field_validator("shown")
    @classmethod
    def _asserts(cls, shown: bool, info: ValidationInfo) -> bool:
        if shown and info.data.get("form") in {"check", "instruction", "leetcode"}:
            raise ValueError('goes with form = "asserts" only')
        return shown

    def columns(self) -> list[str]:
        """Name the columns that are read."""
        return [name for name in (self.column, self.entry_point, self.setup, self.preamble, self.solution) if name]


class Turns(Model):
    """The marks between the turns of a conversation that stands in one text."""

    user: Text
    """What stands before each later turn of the user; the text begins with the first."""
    assistant: Text
    """What stands before each turn of the assistant."""


class Topic(Model):
    """A column that labels rows by topic, and its labels; rows with no label at all are told apart by their text."""

    column: Text
    code: tuple[Text, ...] = ()
    math: tuple[Text, ...] = ()


class Corpus(Model):
    """Where prompts come from, and which columns hold what."""

    id: Text
    """The hub id, `org/name`."""
    modelscope: Text | None = None
    """Its id on ModelScope, where that differs."""
    revision: Text | None = None
    """A commit, tag or branch on Hugging Face; absent: its newest."""
    modelscope_revision: Text | None = None
    license: Text | None = None
    path: Text | None = None
    """A folder or file to read instead of a hub: relative to the recipe, or `embedded:NAME` for one that ships."""
    split: Text = "train"
    files: tuple[Text, ...] = ()
    """Glob patterns within the corpus; empty: the files of `split`, by the hub's naming."""
    prompt: Text
    """The column that holds the user's turn, or the whole conversation: a list of `role` and `content`, or of `from`
    and `value`; turns of the assistant at its end are no part of the prompt."""
    input: Text | None = None
    """A column of text that goes on with the prompt after an empty line, where it is not blank."""
    system: Text | None = None
    """A column that holds the system prompt, where it is not blank."""
    turns: Turns | None = None
    """The marks between the turns of a prompt that is one text."""
    older_names: dict[str, Texts] = Field(default={})
    """Other names that a column has in versions of the corpus: where its own is not there, the first that is."""
    topic: Topic | None = None
    answer: Text | None = None
    """The column that holds the gold answer."""
    tests: UnitTests | None = None
    """The unit tests that programs are judged by."""
    responses: Carried | None = None
    sampled: bool = True
    """False: source models do not answer these prompts; only the carried responses count."""
    where: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default={})
    """Keep rows whose column holds one of these values; others are dropped as `where <column>`. Of a column of lists,
    here and below, any element counts."""
    where_not: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default={})
    """Drop rows whose column holds one of these values, as `where_not <column>`; null is none of them."""
    at_least: dict[str, float] = Field(default={})
    """Keep rows whose column holds this number or more, as a number or a text of one; null is dropped."""
    at_most: dict[str, float] = Field(default={})
    take: Count | None = None
    """Keep this many prompts, chosen by a hash of their ids."""

    @field_validator("tests")
    @classmethod
    def _one_text(cls, tests: UnitTests | None, info: ValidationInfo) -> UnitTests | None:
        if tests and (info.data.get("system") or info.data.get("turns")):
            raise ValueError("goes with prompts that are one text, without `system` and `turns`")
        return tests

    @field_validator("sampled")
    @classmethod
    def _has_responses(cls, sampled: bool, info: ValidationInfo) -> bool:
        if not sampled and info.data.get("responses", ...) is None:
            raise ValueError("false needs carried responses: add a `responses` table")
        return sampled


CorpusT = TypeVar("CorpusT", bound=Corpus)


def rebased(corpus: CorpusT, folder: Path) -> CorpusT:
    """Give a corpus with its relative `path` taken from `folder`."""
    if corpus.path is None or corpus.path.startswith("embedded:"):
        return corpus
    return corpus.model_copy(update={"path": rebased_path(corpus.path, folder)})


def rebased_path(path: str, folder: Path) -> str:
    """Give a path that stands in a file of `folder` as an absolute one; `~` is the user's home."""
    return os.path.realpath(folder / os.path.expanduser(path))  # noqa: PTH111 - pathlib raises on ~stranger and on loops
