"""The attack suite: programs, hostile and honest, whose right verdicts are known, for every user's own machine."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from fusedata.assets import asset
from fusedata.verify.sandbox.pool import Sandbox
from fusedata.verify.sandbox.programs import Outcome, Program

TIMEOUT: Final = 2.0
"""Seconds of the processor a program of the suite may take: many of them never end."""


class Attack(NamedTuple):
    """A program of the suite; `accept` holds the statuses that are right, `machine` the only processor it is for."""

    id: str
    category: str
    program: Program
    accept: tuple[str, ...]
    note: str
    machine: str | None


class Finding(NamedTuple):
    """What became of a program, and of the plain program after it (`next_right`: judged as it deserves)."""

    attack: Attack
    outcome: Outcome
    next_right: bool

    @property
    def mark(self) -> str:
        """right, false pass, false fail, or broken (no verdict, a wrong one on the next program)."""
        if not self.next_right or self.outcome.passed is None:
            return "broken"
        if self.outcome.status in self.attack.accept:
            return "right"
        return (
            "false pass" if self.outcome.passed else "false fail" if "passed" in self.attack.accept else "other status"
        )


def read_attacks(machine: str = "x86_64") -> list[Attack]:
    """The programs of sandbox/attacks.jsonl that are for a processor, in the order in which they have to run."""
    lines = asset("sandbox", "attacks.jsonl").read_text(encoding="utf-8").splitlines()
    attacks = [_attack(json.loads(line)) for line in lines]
    return [attack for attack in attacks if attack.machine in {None, machine}]


def _attack(row: dict[str, Any]) -> Attack:
    given = {key: row[key] for key in ("check", "entry_point", "setup", "stdin", "stdout") if key in row}
    program = Program(row["code"], tuple(row["tests"]), **given)
    return Attack(row["id"], row["category"], program, tuple(row["accept"]), row["note"], row.get("machine"))


def run_attacks(sandbox: Sandbox, attacks: Iterable[Attack]) -> Iterator[Finding]:
    """Run each program and after it a plain one, by turns right and wrong, that has to be judged as it deserves.

    `sandbox` should have one worker: some programs are about what an earlier one left behind.
    """
    attacks = list(attacks)
    outcomes = sandbox.run(_with_witnesses(attacks))
    for number, attack in enumerate(attacks):
        outcome, witness = next(outcomes), next(outcomes)
        yield Finding(attack, outcome, witness.passed is (number % 2 == 0))


def _with_witnesses(attacks: list[Attack]) -> Iterator[Program]:
    for number, attack in enumerate(attacks):
        yield attack.program
        result = number if number % 2 == 0 else number + 1
        yield Program(f"def witness(n):\n    return {result} + n - n\n", (f"assert witness(5) == {number}",))
