"""What the tests of reward models share: Llama-3's special tokens on a byte-level tokenizer, and checkpoints."""

import json
from pathlib import Path
from typing import Any

VOCABULARY = 128256
OBJECTIVES, HIDDEN, INNER = 19, 64, 32
LLAMA_3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
NAMED = {
    128000: "<|begin_of_text|>",
    128001: "<|end_of_text|>",
    128006: "<|start_header_id|>",
    128007: "<|end_header_id|>",
    128009: "<|eot_id|>",
}


def save_llama_3_tokenizer(folder: Path, template: str = LLAMA_3) -> None:
    """Bytes, the token `assistant` (78191), the token of two line ends (271), and the special tokens from 128000 on."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    word, merges = "a", []
    for letter in "ssistant":
        vocabulary[word + letter] = 1000 + len(merges)
        merges.append((word, letter))
        word += letter
    merges.append(("Ċ", "Ċ"))
    vocabulary |= {"assistant": 78191, "ĊĊ": 271}
    vocabulary |= {f"filler{n}": n for n in set(range(128000)) - set(vocabulary.values())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    words = pre_tokenizers.Split(Regex(r"\s*[\r\n]+|\s+|\S+"), "isolated")  # as Llama-3, line ends stay together
    letters_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters_of])
    tokenizer.decoder = decoders.ByteLevel()
    special = [NAMED.get(n, f"<|reserved_special_token_{n}|>") for n in range(128000, VOCABULARY)]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=NAMED[128000], eos_token=NAMED[128009], chat_template=template
    ).save_pretrained(folder)


def armorm_tensors(seed: int = 0) -> dict[str, Any]:
    """A small body and a head of random numbers, by the names of the published tensors."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(seed)
    body = LlamaModel(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
        )
    )
    tensors = {f"model.{name}": tensor.clone() for name, tensor in body.state_dict().items()}
    widths = [HIDDEN, INNER, INNER, INNER, OBJECTIVES]
    for number in range(4):
        tensors[f"gating.layers.{number}.weight"] = (
            torch.randn(widths[number + 1], widths[number]) * 1.5 / widths[number] ** 0.5
        )
        tensors[f"gating.layers.{number}.bias"] = torch.randn(widths[number + 1])
    tensors["gating.logit_scale"] = torch.tensor([1.7])
    tensors["regression_layer.weight"] = torch.randn(OBJECTIVES, HIDDEN) * 0.05
    tensors["reward_transform_matrix"] = torch.eye(OBJECTIVES) - 0.1 * torch.rand(OBJECTIVES, OBJECTIVES)
    return tensors


CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForRewardModelWithGating"],
    "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "id2label": {str(n): f"objective-{n}" for n in range(OBJECTIVES)},
    "label2id": {f"objective-{n}": n for n in range(OBJECTIVES)},
    "gating_hidden_dim": INNER,
    "gating_n_hidden": 3,
    "gating_temperature": 2.5,
    "pad_token_id": 128255,
    "torch_dtype": "bfloat16",
}


def save_checkpoint(folder: Path, tensors: dict[str, Any], config: dict[str, Any], *, shards: int = 1) -> Path:
    """Write safetensors, config.json and a file of code that fails when it is run."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_custom.py").write_text("raise SystemExit('remote code was run')\n")
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
