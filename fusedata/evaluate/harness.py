"""Questions answered through lm-evaluation-harness: its models, batching and cache, tasks made of our questions."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusedata.errors import ConfigError, EngineError, MissingExtraError
from fusedata.evaluate.tasks import Question
from fusedata.schema import fingerprint
from fusedata.store import first_line
from fusedata.weights import find_weights, load_arguments


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

    Answers are kept under `folder` as they come, so that a run that was stopped goes on. Raises EngineError,
    MissingExtraError, ConfigError.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("evaluate", "fusedata evaluate") from error
    if not backend.served and backend.engine not in {"transformers", "vllm"}:
        raise ConfigError(f"--engine {backend.engine}: it is transformers, vllm, or the URL of a server (http…/v1).")
    for name in ("lm_eval", "lm-eval"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    served, identity = _model(model, backend)
    cache = folder / f"cache-{fingerprint({'model': identity, 'engine': backend.engine})}"
    try:
        found = _answers(served, asked, backend, cache)
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(f"{model}: the harness could not have it answer ({first_line(error)}).") from error
    return found


def _answers(
    served: Any,  # noqa: ANN401 - a model of the harness
    asked: Mapping[str, Sequence[Question]],
    backend: Backend,
    cache: Path,
) -> dict[str, list[list[str]]]:
    import lm_eval

    results = lm_eval.simple_evaluate(
        model=served,
        tasks=[_task(name, questions, backend) for name, questions in asked.items()],
        apply_chat_template=True,
        predict_only=True,
        use_cache=str(cache),
        bootstrap_iters=0,
    )
    found: dict[str, list[list[str]]] = {}
    for name, questions in asked.items():
        samples = sorted(results["samples"][_called(name)], key=lambda sample: sample["doc_id"])
        answers = [[sample["resps"][0][0]] for sample in samples]
        further = [number for number, question in enumerate(questions) if question.then]
        turns = [_turns(questions[number], answers[number][0]) for number in further]
        for number, text in zip(further, _replies(served, turns, backend, cache), strict=True):
            answers[number].append(text)
        found[name] = answers
    return found


def _turns(question: Question, answered: str) -> list[dict[str, str]]:
    turns = (("user", question.prompt), ("assistant", answered), ("user", question.then or ""))
    return [{"role": role, "content": content} for role, content in turns]


def _replies(
    served: Any,  # noqa: ANN401 - a model of the harness
    conversations: Sequence[Sequence[Mapping[str, str]]],
    backend: Backend,
    cache: Path,
) -> list[str]:
    """Let the model go on with conversations: tasks of the harness know first turns alone."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CachingLM

    if not conversations:
        return []
    settings = _generation(backend)
    requests = [
        Instance("generate_until", {}, (served.apply_chat_template(list(turns)), dict(settings)), number)
        for number, turns in enumerate(conversations)
    ]
    replies: list[str] = CachingLM(served, f"{cache}_second.db").generate_until(requests)
    return replies


def _generation(backend: Backend) -> dict[str, Any]:
    return {"until": [], "do_sample": False, "max_gen_toks": backend.max_tokens}


def _called(name: str) -> str:
    return "fusedata_" + re.sub(r"\W", "_", name)


def _task(name: str, questions: Sequence[Question], backend: Backend) -> dict[str, Any]:
    def rows(**_: object) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list([{"prompt": question.prompt} for question in questions])}

    return {
        "task": _called(name),
        "custom_dataset": rows,
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": lambda row: row["prompt"],
        "doc_to_target": "",
        "num_fewshot": 0,
        "generation_kwargs": _generation(backend),
        "metric_list": [{"metric": "bypass"}],
    }


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
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(weights.source, dtype=dtype, **load_arguments(weights))
    loaded = loaded.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
    return get_model("hf")(pretrained=loaded, tokenizer=tokenizer, batch_size=backend.batch_size), weights.revision
