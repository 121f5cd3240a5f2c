"""Questions answered through lm-evaluation-harness: its models, its batches, its cache of answers."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from fusedata.errors import ConfigError, EngineError, MissingExtraError
from fusedata.evaluate.tasks import Question
from fusedata.quiet import quiet_loading
from fusedata.schema import fingerprint
from fusedata.storage import unwritable
from fusedata.store import first_line
from fusedata.weights import Weights, find_weights, load_arguments


@dataclass(frozen=True)
class Backend:
    """What answers: "transformers" or "vllm" in this process, or the URL of an OpenAI-compatible server.

    Greedy decoding of at most `max_tokens` tokens an answer.
    """

    engine: str = "transformers"
    max_tokens: int = 2048
    batch_size: int = 8
    concurrency: int = 32

    @property
    def served(self) -> bool:
        """Whether models are behind a URL."""
        return self.engine.startswith(("http://", "https://"))


def answer(
    model: str, asked: Mapping[str, Sequence[Question]], backend: Backend, folder: Path
) -> dict[str, list[list[str]]]:
    """Give the model's answers to each question of each benchmark: one, and a second where more is asked `then`.

    Answers are kept under `folder` as they come, so that a run that was stopped goes on. Raises EngineError, RunError,
    MissingExtraError, ConfigError.
    """
    from aiohttp import ClientError

    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("evaluate", "fusedata evaluate") from error
    if not backend.served and backend.engine not in {"transformers", "vllm"}:
        raise ConfigError(f"--engine {backend.engine}: it is transformers, vllm, or the URL of a server (http…/v1).")
    for name in ("lm_eval", "lm-eval", "asyncio"):  # they log what is raised anyway
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    served, identity = _model(model, backend)
    cache = folder / f"cache-{fingerprint({'model': identity, 'engine': backend.engine})}.db"
    try:
        return _answers(served, asked, backend, cache)
    except (OSError, ValueError, RuntimeError, TemplateError, ClientError) as error:
        raise EngineError(f"{model}: the harness could not have it answer ({first_line(error)}).") from error


def _answers(
    served: Any,  # noqa: ANN401 - a model of the harness
    asked: Mapping[str, Sequence[Question]],
    backend: Backend,
    cache: Path,
) -> dict[str, list[list[str]]]:
    """Ask all first turns together, then all second ones."""
    questions = [question for each in asked.values() for question in each]
    first = _replies(served, [_turns(question) for question in questions], backend, cache)
    answers = [[text] for text in first]
    further = [number for number, question in enumerate(questions) if question.then]
    turns = [_turns(questions[number], first[number]) for number in further]
    for number, text in zip(further, _replies(served, turns, backend, cache), strict=True):
        answers[number].append(text)
    each = iter(answers)
    return {name: [next(each) for _ in questions] for name, questions in asked.items()}


def _turns(question: Question, answered: str | None = None) -> list[dict[str, str]]:
    turns = [("user", question.prompt)]
    if answered is not None:
        turns += [("assistant", answered), ("user", question.then or "")]
    return [{"role": role, "content": content} for role, content in turns]


def _replies(
    served: Any,  # noqa: ANN401 - a model of the harness
    conversations: Sequence[Sequence[Mapping[str, str]]],
    backend: Backend,
    cache: Path,
) -> list[str]:
    """Let the model go on with conversations; what it said before comes out of the cache."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CachingLM

    if not conversations:
        return []
    settings = {"until": [], "do_sample": False, "max_gen_toks": backend.max_tokens}
    requests = [
        Instance("generate_until", {}, (served.apply_chat_template(list(turns)), dict(settings)), number)
        for number, turns in enumerate(conversations)
    ]
    replies: list[str] = CachingLM(served, str(cache)).generate_until(requests)
    return replies


def _model(model: str, backend: Backend) -> tuple[Any, str]:
    """Open the model in the harness, and name exactly what it is. Raises EngineError."""
    from lm_eval.api.registry import get_model

    if backend.served:
        url = backend.engine.rstrip("/") + "/chat/completions"
        settings = {
            "model": model,
            "base_url": url,
            "num_concurrent": backend.concurrency,
            "tokenizer_backend": None,
            "tokenized_requests": False,
            "auth_token": os.environ.get("OPENAI_API_KEY"),
        }
        return get_model("local-chat-completions")(**settings), model
    weights = find_weights(model, model if model.startswith("package:") else None)
    import torch

    dtype = "auto" if torch.cuda.is_available() else "float32"
    if backend.engine == "vllm":
        if "gguf_file" in weights.arguments:
            raise ConfigError(f"{model}: vLLM takes no GGUF here: name a folder of safetensors, or use transformers.")
        try:
            return get_model("vllm")(pretrained=weights.source, dtype=dtype, **weights.arguments), weights.revision
        except ImportError as error:
            raise ConfigError(
                "--engine vllm: the harness takes the package vllm alone: pip install 'fusedata[vllm]'; with another"
                " build of vLLM, serve the model and name the server's URL."
            ) from error
    loaded, tokenizer = _loaded(weights, dtype)
    loaded = loaded.to("cuda" if torch.cuda.is_available() else "cpu")
    return get_model("hf")(pretrained=loaded, tokenizer=tokenizer, batch_size=backend.batch_size), weights.revision


def _loaded(weights: Weights, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
            loaded = AutoModelForCausalLM.from_pretrained(weights.source, dtype=dtype, **load_arguments(weights))
    except Exception as error:  # whatever a damaged file makes foreign code raise
        raise EngineError(f"{weights.source}: transformers cannot load it ({first_line(error)}).") from error
    if not tokenizer.chat_template:
        raise EngineError(f"{weights.source}: its tokenizer has no chat template: name an instruction model.")
    return loaded.eval(), tokenizer
