import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="a checkout without scripts/")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import train_preference_head

    yield train_preference_head
    del sys.modules["train_preference_head"]


def turns(*texts: str) -> tuple[dict[str, str], ...]:
    return tuple({"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts))


def test_conversations_that_open_alike_share_a_part(training: Any) -> None:
    assert training.prompt_digest(turns("Hi  there", "Hello", "More")) == training.prompt_digest(turns("Hi\nthere"))


def test_a_system_turn_does_not_move_a_prompt_to_another_part(training: Any) -> None:
    system = {"role": "system", "content": "Be kind."}
    assert training.prompt_digest((system, *turns("Hi"))) == training.prompt_digest(turns("Hi"))


def test_the_fit_finds_the_direction_that_wins(training: Any) -> None:
    draws = np.random.default_rng(0).normal(size=(400, 3))
    weights = training.fit(draws * np.sign(draws[:, :1]), 1.0)
    assert weights[0] > 10 * abs(weights[1:]).max()


def test_more_penalty_means_smaller_weights(training: Any) -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, size=(100, 3))
    assert np.linalg.norm(training.fit(differences, 100.0)) < np.linalg.norm(training.fit(differences, 1.0))


def test_cross_validation_is_blind_to_the_fold_it_judges(training: Any) -> None:
    noise = np.random.default_rng(0).normal(size=(200, 100))
    assert training.accuracy(training.cross_validated(noise, np.arange(200) % 5, 1.0))[0] == pytest.approx(0.5, abs=0.1)


def test_the_interval_is_wilsons(training: Any) -> None:
    margins = np.array([1.0] * 8 + [-1.0] * 2)
    assert training.accuracy(margins) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


def test_a_tie_counts_half(training: Any) -> None:
    assert training.accuracy(np.array([0.0, 1.0]))[0] == 0.75


def test_calibration_puts_the_typical_gap_and_the_right_answer_on_the_scale(training: Any) -> None:
    raw = np.random.default_rng(0).normal(size=(50, 4))
    right = raw > 0.5
    scale, shift = training.calibrate(raw, right)
    found = (np.median(np.ptp(raw * scale + shift, axis=1)), np.median((raw * scale + shift)[right]))
    assert found == pytest.approx((0.04, 0.15))
