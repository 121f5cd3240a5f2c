"""The benchmarks that the published method is judged on: where their texts are, and which columns hold them.

Ids, files and columns are those of the datasets' own pages; ids on ModelScope are those that evalscope reads. Commits
are those that public evaluations pin; where none is pinned, here or in a recipe, the newest is read. The commit that
was read is recorded in any case.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One dataset with texts of a benchmark.

    `files` are patterns as `collect.locate` takes them; none: the files of `split`. `plain` are names that its file has
    where benchmarks lie in one folder. `texts` and `choices` name columns, each by its first name that is there: each
    of `texts` is looked for by itself (a list is a text an entry), and once more with the `choices` behind it.
    """

    hub: str | None
    texts: tuple[tuple[str, ...], ...]
    choices: tuple[tuple[str, ...], ...] = ()
    files: tuple[str, ...] = ()
    split: str = "test"
    plain: tuple[str, ...] = ()
    item: str | None = None
    """The column that names an item; absent or not there: its row."""
    between: tuple[str, str | int, str | int] | None = None
    """A column, and the first and the last value of it that belong to the benchmark."""
    revision: str | None = None
    modelscope: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its texts in one or several datasets, and what is to be known of them."""

    name: str
    sources: tuple[Source, ...]
    license: str | None = None
    gated: bool = False
    """Its terms must be accepted on the hub before it can be read."""
    where: str = ""
    """Where it is published, if on no hub."""


def _one(name: str, license: str | None, source: Source, *, gated: bool = False, where: str = "") -> Benchmark:  # noqa: A002 - the field's name
    return Benchmark(name, (source,), license, gated, where)


_LIVEBENCH = {
    "coding": "a958549fdd8aa57be0a3fafe7b205ffc160ed5f4",
    "data_analysis": "31b9661ff678df9958e2f7fa228427f4c858c1a1",
    "instruction_following": "0868379c4b5cf62aeacaf8be4f08fced815c81bb",
    "language": "3ada32a2e53d5e04e57fa503384cb85ce9116c40",
    "math": "bb66571c8ccf32d3df9e6f48b920d3770ff4aacb",
    "reasoning": "6fc6498a5dfba553f69f4413feabade1f1a2d384",
}

BENCHMARKS: tuple[Benchmark, ...] = (
    _one(
        "alpaca-eval-2",
        "cc-by-nc-4.0",
        Source(
            "tatsu-lab/alpaca_eval",
            (("instruction",),),
            files=("alpaca_eval.json",),
            plain=("alpaca_eval.json",),
            revision="57530fed23a308e771c06bba55cb49b7e7625711",
        ),
    ),
    _one(
        "arena-hard",
        "apache-2.0",
        Source(
            "lmarena-ai/arena-hard-auto-v0.1",
            (("turns", "prompt"),),
            split="train",
            plain=("arena-hard-question.jsonl", "arena-hard.jsonl"),
            item="question_id",
            revision="2a69efe86cff85c593cfd4c2b4491c128e52c6f1",
        ),
    ),
    _one(
        "mt-bench",
        "apache-2.0",
        Source(
            "HuggingFaceH4/mt_bench_prompts",
            (("prompt", "turns"),),
            files=("data/train-*.parquet",),
            plain=("mt_bench-question.jsonl",),
            item="question_id",
            revision="b60d01a44377daa2d9434e50a91a9e4169a090d5",
        ),
    ),
    _one(
        "alignbench-1.1",
        None,
        Source(None, (("question",),), plain=("data_v1.1_release.jsonl", "alignbench-1.1.jsonl"), item="question_id"),
        where="github.com/THUDM/AlignBench, data/data_v1.1_release.jsonl",
    ),
    Benchmark(
        "livebench-0831",
        tuple(
            Source(
                f"livebench/{part}",
                (("turns",),),
                plain=(f"livebench-{part}.jsonl",),
                item="question_id",
                between=("livebench_release_date", "2024-01-01", "2024-08-31~"),
                revision=revision,
            )
            for part, revision in _LIVEBENCH.items()
        ),
    ),
    _one(
        "mmlu-pro",
        "mit",
        Source(
            "TIGER-Lab/MMLU-Pro",
            (("question",),),
            (("options",),),
            plain=("mmlu-pro.jsonl",),
            item="question_id",
            revision="b189ec765aa7ed75c8acfea42df31fdae71f97be",
        ),
    ),
    _one(
        "mmlu-redux",
        "cc-by-4.0",
        Source(
            "edinburgh-dawg/mmlu-redux",
            (("question",),),
            (("choices",),),
            files=("*/data-*.arrow",),
            plain=("mmlu-redux.jsonl",),
        ),
    ),
    _one(
        "gpqa-diamond",
        "cc-by-4.0",
        Source(
            "Idavidrein/gpqa",
            (("Question",),),
            (("Correct Answer",), ("Incorrect Answer 1",), ("Incorrect Answer 2",), ("Incorrect Answer 3",)),
            files=("gpqa_diamond.csv",),
            plain=("gpqa_diamond.csv",),
            item="Record ID",
            revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        ),
        gated=True,
    ),
    _one(
        "gsm8k",
        "mit",
        Source(
            "openai/gsm8k",
            (("question",),),
            files=("main/test-*.parquet",),
            plain=("gsm8k-test.jsonl",),
            modelscope="AI-ModelScope/gsm8k",
            revision="740312add88f781978c0658806c59bc2815b9866",
        ),
    ),
    _one(
        "math",
        "mit",
        Source(
            "EleutherAI/hendrycks_math",
            (("problem",),),
            files=("*/test-*.parquet",),
            plain=("math-test.jsonl",),
            revision="21a5633873b6a120296cce3e2df9d5550074f4a3",
        ),
    ),
    _one(
        "math-500",  # part of `math`, and what many report: where only it can be had, it alone is checked
        "mit",
        Source(
            "HuggingFaceH4/MATH-500",
            (("problem",),),
            files=("test.jsonl",),
            plain=("math-500.jsonl",),
            item="unique_id",
            modelscope="AI-ModelScope/MATH-500",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        ),
    ),
    _one(
        "amc23",
        None,
        Source(
            "math-ai/amc23",
            (("question", "problem"),),
            plain=("amc23.jsonl",),
            item="id",
            revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        ),
    ),
    _one(
        "humaneval",
        "mit",
        Source(
            "openai/openai_humaneval",
            (("prompt",), ("test",)),
            plain=("HumanEval.jsonl.gz", "HumanEval.jsonl"),
            item="task_id",
            revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        ),
    ),
    _one(
        "mbpp",
        "cc-by-4.0",
        Source(
            "google-research-datasets/mbpp",
            (("text", "prompt"), ("test_list",)),
            files=("full/test-*.parquet", "sanitized/test-*.parquet"),
            plain=("mbpp.jsonl",),
            item="task_id",
            between=("task_id", 11, 510),
            revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
        ),
    ),
    _one(
        "livecodebench-2408-2411",  # these files are 1.8 GB, most of it private tests
        "cc",
        Source(
            "livecodebench/code_generation_lite",
            (("question_content",),),
            files=("test4.jsonl", "test5.jsonl"),
            plain=("livecodebench.jsonl",),
            item="question_id",
            between=("contest_date", "2024-08-01", "2024-11-30~"),
            modelscope="AI-ModelScope/code_generation_lite",
            revision="0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
        ),
    ),
)
"""By the order in which a text that several have is told."""

DATASETS = tuple(
    name for benchmark in BENCHMARKS for source in benchmark.sources for name in (source.hub, source.modelscope) if name
)
"""Their ids on the hubs."""

NAMES = tuple(benchmark.name for benchmark in BENCHMARKS)
