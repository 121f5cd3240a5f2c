"""Make the responses and rewards that tests/test_train_proof.py builds its dataset from, in tests/data/.

    python scripts/make_training_pairs.py FOLDER

FOLDER holds `preference/dpo_en_demo.json` (hiyouga/LLaMA-Factory, Apache-2.0) and `instructions/seed_tasks.jsonl`
(yizhongw/self-instruct, Apache-2.0), of which the short prompts are taken. SmolLM2-135M-Instruct (Apache-2.0) answers
each twice, once cool and once hot, and the reward model of the profile `local` scores both.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusedata.profile import TransformersEngine as Host
from fusedata.recipe import SourceModel
from fusedata.reward.preference_head import MODEL, WEIGHTS, PreferenceHead
from fusedata.reward.protocol import Item
from fusedata.sample.protocol import Request
from fusedata.sample.transformers_engine import TransformersEngine

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "training_pairs.jsonl"
PROMPTS = 175
LONGEST = 140
"""Characters of a prompt: a proof on two processor cores has to be short."""
TOKENS = 16
SYSTEM = "Answer."
"""Said to the model in the place of its own, longer one."""
TEMPERATURES = (0.6, 1.4)
"""Far apart, so that one response is often plainly better than the other, and a small model can learn which."""
BATCH = 48


def main(folder: Path) -> None:
    """Sample, score, and write one line a prompt."""
    prompts = sorted(set(_prompts(folder)), key=lambda text: (len(text), text))[:PROMPTS]
    columns = [_answers(prompts, temperature) for temperature in TEMPERATURES]
    lines = []
    scorer = PreferenceHead()
    for prompt, responses in zip(prompts, zip(*columns, strict=True), strict=True):
        if len({text.strip() for text in responses} - {""}) < len(TEMPERATURES):
            continue
        turns = _turns(prompt)
        scores = [scored.score for scored in scorer.score([Item(tuple(turns), text) for text in responses])]
        rewards = [round(score or 0.0, 6) for score in scores]
        lines.append({"system": SYSTEM, "prompt": prompt, "responses": responses, "rewards": rewards})
    DATA.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def _prompts(folder: Path) -> Iterator[str]:
    for row in json.loads((folder / "preference" / "dpo_en_demo.json").read_bytes()):
        first = row["conversations"][0]
        if first["from"] == "human" and 0 < len(first["value"].strip()) <= LONGEST:
            yield first["value"].strip()
    for line in (folder / "instructions" / "seed_tasks.jsonl").read_text("utf-8").splitlines():
        task = json.loads(line)
        text = f"{task['instruction']}\n{task['instances'][0]['input']}".strip()
        if len(text) <= LONGEST:
            yield text


def _turns(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


def _answers(prompts: Sequence[str], temperature: float) -> list[str]:
    model = SourceModel(id=MODEL, temperature=temperature, top_p=1.0, max_tokens=TOKENS)
    engine = TransformersEngine(model, Host(engine="transformers", weights=WEIGHTS, batch_size=BATCH))
    requests = [Request(str(n), 0, _turns(prompt), n + int(1000 * temperature)) for n, prompt in enumerate(prompts)]
    batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
    found = {
        request.prompt_id: completion.text or "" for group in engine.generate(batches) for request, completion in group
    }
    return [found[request.prompt_id] for request in requests]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
