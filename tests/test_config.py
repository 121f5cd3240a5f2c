"""What config makes of shapes that recipes and profiles do not have yet: variants, and rules without words of ours."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from fusedata.config import Model, validate
from fusedata.errors import ConfigError


class Cat(Model):
    kind: Literal["cat"]
    lives: int


class Dog(Model):
    kind: Literal["dog"]
    tricks: tuple[str, ...] = ()


class Zoo(Model):
    animals: tuple[Annotated[Cat | Dog, Field(discriminator="kind")], ...] = ()
    weight: Annotated[int, Field(multiple_of=5)] = 5


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"animals": [{"kind": "cow"}]}, ["animals[0].kind: must be one of 'cat', 'dog' (found 'cow')."]),
        ({"animals": [{}]}, ["animals[0].kind: is missing."]),
        (
            {
                "animals": [
                    {"kind": "dog", "tricks": ["sit", 1], "x y": 2},
                    {"kind": "cat"},
                    {"kind": "cat", "lives": "9"},
                ]
            },
            [
                "animals[0].tricks[1]: must be a string, in quotes (found 1).",
                'animals[0]."x y": unknown key: check its spelling, or take it out.',
                "animals[1].lives: is missing.",
                'animals[2].lives: must be a whole number (found "9").',
            ],
        ),
        ({"weight": 7}, ["weight: Input should be a multiple of 5 (found 7)."]),
    ],
)
def test_variants_and_other_rules_are_told_by_the_keys_of_the_file(data, told):
    with pytest.raises(ConfigError) as refused:
        validate(Zoo, data, "zoo")
    assert str(refused.value).splitlines() == [f"zoo: {line}" for line in told]


def test_what_fits_is_frozen_deeply():
    zoo = validate(Zoo, {"animals": [{"kind": "dog", "tricks": ["sit"]}]}, "zoo")
    assert zoo == Zoo(animals=(Dog(kind="dog", tricks=("sit",)),))
    assert hash(zoo)
