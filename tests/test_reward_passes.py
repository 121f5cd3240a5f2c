from collections.abc import Sequence

import pytest

from fusedata.errors import RewardError
from fusedata.reward.chat import Reading
from fusedata.reward.passes import ROW, Passes, Row, last_hidden, rows, shares_prompts


def reading(size: int, prefix: int = 0, prompt: int = 7) -> Reading:
    own = [100 + n % 50 for n in range(size - prefix)]
    return Reading([prompt] * prefix + own, (size - 1,), prefix)


def padded(group: Sequence[Row]) -> int:
    return len(group) * max(row.size for row in group)


class Device:
    """Scores a reading by its number of tokens, and has memory for so many of them, padding counted."""

    def __init__(self, memory: int = 10**9) -> None:
        self.memory, self.passes = memory, list[list[int]]()

    def __call__(self, group: Sequence[Row]) -> list[float]:
        self.passes.append([row.size for row in group])
        if padded(group) > self.memory:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
        return [float(len(one.tokens)) for row in group for one in row.readings]


def test_a_pass_takes_no_more_tokens_than_its_budget_unless_for_a_single_row() -> None:
    device = Device()
    Passes(device, 100, "cuda", share=False).scores([reading(n) for n in (90, 10, 30, 31, 150, 9, 33)])
    assert device.passes == [[9, 10, 30], [31, 33], [90], [150]]


def test_scores_come_in_the_order_of_the_readings() -> None:
    sizes = [50, 3, 77, 3, 12]
    assert Passes(Device(), 60, "cuda", share=True).scores([reading(n) for n in sizes]) == sizes


def test_a_pass_on_processor_cores_is_kept_small() -> None:
    assert Passes(Device(), 10**6, "cpu", share=False).tokens < Passes(Device(), 10**6, "cuda", share=False).tokens


def test_where_memory_runs_out_passes_are_halved_and_stay_small() -> None:
    device = Device(memory=100)
    sizes = [20 + n % 3 for n in range(40)]
    assert Passes(device, 400, "cuda", share=False).scores([reading(n) for n in sizes]) == sizes
    assert all(len(one) * max(one) <= 100 for one in device.passes[-5:])
    assert sum(len(one) * max(one) > 100 for one in device.passes) < 5


def test_a_row_of_several_readings_is_halved_too() -> None:
    device = Device(memory=450)
    many = [reading(300, 250) for _ in range(8)]
    assert Passes(device, 2000, "cuda", share=True).scores(many) == [300.0] * 8
    assert device.passes[0] == [650]


def test_one_conversation_that_does_not_fit_the_memory_is_an_error_that_says_so() -> None:
    with pytest.raises(RewardError, match="one conversation of 101 tokens does not fit the memory of cuda"):
        Passes(Device(memory=100), 400, "cuda", share=False).scores([reading(50), reading(101)])


def test_another_failure_of_the_device_is_an_error_with_its_words() -> None:
    def broken(_: Sequence[Row]) -> list[float]:
        raise RuntimeError("CUDA error: an illegal memory access")

    with pytest.raises(RewardError, match="broke down on cuda: CUDA error: an illegal"):
        Passes(broken, 400, "cuda", share=False).scores([reading(5)])


def test_responses_to_one_prompt_share_a_row_where_that_saves_enough() -> None:
    (row,) = rows([reading(300, 200), reading(260, 200), reading(240, 200)], share=True)
    assert (row.size, row.shared, row.numbers) == (200 + 40 + 60 + 100, 200, (2, 1, 0))


def test_long_responses_to_a_short_prompt_go_apart() -> None:
    assert [row.shared for row in rows([reading(300, 20), reading(310, 20)], share=True)] == [0, 0]


def test_readings_of_other_prompts_do_not_share() -> None:
    assert len(rows([reading(300, 250, prompt=7), reading(300, 250, prompt=8)], share=True)) == 2


def test_a_shared_row_has_a_bounded_size() -> None:
    laid = rows([reading(500, 300) for _ in range(20)], share=True)
    assert max(row.size for row in laid) <= ROW
    assert sorted(n for row in laid for n in row.numbers) == list(range(20))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_rows_that_share_a_prompt_give_the_states_of_readings_apart(kind: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    config = transformers.AutoConfig.for_model(kind, **sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    body = transformers.AutoModel.from_config(config).eval()
    assert shares_prompts(body)
    alike = [Reading([5, 6, 7] * 20 + [90 + n] * (4 + 3 * n), (58, 63 + 3 * n), 60) for n in range(4)]
    other = Reading(list(range(100, 170)), (3, 69), 60)
    shared = rows([*alike, other], share=True)
    assert [row.shared for row in shared] == [60, 0]
    together = last_hidden(body, shared)
    apart = torch.cat([last_hidden(body, [row]) for row in rows([*alike, other], share=False)])
    assert torch.allclose(together, apart, atol=1e-5)


def test_a_body_with_a_sliding_window_does_not_share() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.Qwen2Config(
        **sizes, num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True, max_window_layers=1
    )
    assert not shares_prompts(transformers.AutoModel.from_config(config))
