"""A cursor over the tokens of one answer, with the rules that the layers of the grammar call in each other."""

from typing import Final

from fusedata.verify.mathematics.tokens import Node, NotMathError, Token

MAX_DEPTH: Final = 40


class Cursor:
    """The tokens of one answer and how far they are read."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.marks = 0

    def peek(self, ahead: int = 0) -> Token:
        """A token that is not taken yet."""
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "")

    def take(self) -> Token:
        """The next token."""
        token = self.peek()
        self.at += 1
        return token

    def expect(self, value: str) -> None:
        """Take a bracket that must stand here."""
        if (token := self.take()).value != value:
            raise NotMathError("the answer is unfinished" if token.kind == "end" else "unbalanced brackets")

    def items(self, closing: str) -> tuple[list[Node], bool]:
        """Items up to (not past) a closing bracket or the end, and whether a separator stood between them."""
        raise NotImplementedError

    def relation(self) -> Node:
        """One item of a list."""
        raise NotImplementedError

    def factor(self) -> Node:
        """An atom with what is written after it: powers, subscripts, `!`, `%`."""
        raise NotImplementedError

    def continues(self) -> bool:
        """Whether the next token is a factor that is multiplied by standing beside."""
        raise NotImplementedError

    def count_mark(self) -> None:
        """Bound what nests without brackets."""
        self.marks += 1
        if self.marks > MAX_DEPTH:
            raise NotMathError("the answer is nested too deeply")

    def raw_group(self) -> str:
        """The next token or braced group, as text."""
        if self.peek().value != "{":
            sign = self.take().value if self.peek().value in {"-", "+"} else ""
            return sign + self.take().value
        self.take()
        depth, parts = 1, []
        while depth:
            token = self.take()
            if token.kind == "end":
                raise NotMathError("the answer is unfinished")
            depth += (token.value == "{") - (token.value == "}")
            parts.append(token.value if depth else "")
        return "".join(parts)


def joined(name: str, nodes: list[Node]) -> Node:
    """Several nodes under one name; one node as it is."""
    return nodes[0] if len(nodes) == 1 else (name, *nodes)
