r"""AMGA's conditions without I/O: text in, a bounded tree out.

    Modality = "CT" and SliceThickness < 2
    like(/mdm/here/heart/image:FILE, "a%") or not .:BodyPart in ("CHEST", "HEART") limit 10 offset 20

An attribute stands alone or after the directory of its collection and a colon; ``FILE`` is the name of
the entry. Strings stand in double quotes, ``\"`` and ``\\`` inside for themselves. Keywords are read in
any case. No message ever repeats what the caller typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from srm_dicom.errors import InvalidRequest, TooLarge

MAX_CHARS = 16 * 1024
MAX_CONDITIONS = 200
MAX_DEPTH = 30
ENTRY_NAME = "FILE"
"""The attribute that every entry has: its name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An attribute; `directory` is as written and empty where the attribute stands alone."""

    directory: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value."""

    value: str | int | float


Operand = Reference | Literal


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``; the operator is one of ``= != < <= > >=``."""

    left: Operand
    operator: str
    right: Operand


@dataclass(frozen=True, slots=True)
class Like:
    r"""The text matches a pattern, in any case: ``%`` is anything, ``_`` any character, ``\`` quotes."""

    reference: Reference
    pattern: str


@dataclass(frozen=True, slots=True)
class In:
    """The value is one of these."""

    reference: Reference
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The value is not below `low` and not above `high`."""

    reference: Reference
    low: Literal
    high: Literal


@dataclass(frozen=True, slots=True)
class IsNull:
    """There is no value."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class Not:
    """The condition is false."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every condition is true (``and``)."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition is true (``or``)."""

    conditions: tuple[Condition, ...]


Condition = Comparison | Like | In | Between | IsNull | Not | All | AnyOf


@dataclass(frozen=True, slots=True)
class Query:
    """A condition, or none, and which of the matches are wanted."""

    condition: Condition | None
    limit: int | None = None
    offset: int = 0


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        InvalidRequest: it does not follow the grammar; the message has the position, not the text.
        TooLarge: too long, too many conditions, or nested too deeply.
    """
    if len(text) > MAX_CHARS:
        raise TooLarge(f"a query has at most {MAX_CHARS} characters")
    return _Parser(_tokens(text)).query()


def parse_reference(text: str) -> Reference:
    """Read one attribute, as in the list of what to show.

    Raises:
        InvalidRequest: it is not one.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise InvalidRequest("an attribute reads name or /directory:name")
    return Reference(match["directory"] or "", match["attribute"])


def parse_literal(text: str) -> Literal:
    """Read one value: a number or a string in double quotes.

    Raises:
        InvalidRequest: it is neither.
    """
    parser = _Parser(_tokens(text))
    literal = parser.literal()
    parser.expect_end()
    return literal


def quote_string(value: str) -> str:
    """Write a string literal that `parse` reads back."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def references(condition: Condition | None) -> Iterator[Reference]:
    """Yield every attribute that a condition looks at."""
    match condition:
        case All(conditions) | AnyOf(conditions):
            for part in conditions:
                yield from references(part)
        case Not(part):
            yield from references(part)
        case Comparison(left, _, right):
            yield from (side for side in (left, right) if isinstance(side, Reference))
        case Like(reference) | In(reference) | Between(reference) | IsNull(reference):
            yield reference


# --- tokens --------------------------------------------------------------------------------------

_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_REFERENCE = re.compile(rf"(?:(?P<directory>[A-Za-z0-9._/-]+):)?(?P<attribute>{_NAME})")
_TOKEN = re.compile(
    rf"""[ \t\r\n]*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9._/:-])
      | (?P<word>(?:[A-Za-z0-9._/-]+:)?{_NAME})
      | (?P<sign><=|>=|<>|!=|==|[=<>(),])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEYWORDS = frozenset({"and", "or", "not", "like", "in", "between", "is", "null", "limit", "offset"})
_COMPARISONS = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise InvalidRequest(f"the query cannot be read at character {position + 1}")
        kind, word = match.lastgroup, match[match.lastgroup]
        if kind == "word" and word.lower() in _KEYWORDS:
            kind, word = "keyword", word.lower()
        tokens.append(_Token(kind, word, match.start(match.lastgroup)))
        position = match.end()
    return tokens


# --- the grammar ---------------------------------------------------------------------------------


@dataclass
class _Parser:
    tokens: list[_Token]
    position: int = 0
    depth: int = 0
    conditions: int = field(default=0)

    def query(self) -> Query:
        starts = self._peek().kind != "end" and self._peek().text not in ("limit", "offset")
        condition = self._any_of() if starts else None
        limit = self._count() if self._take("keyword", "limit") else None
        offset = self._count() if self._take("keyword", "offset") else 0
        self.expect_end()
        return Query(condition, limit, offset)

    def literal(self) -> Literal:
        token = self._next()
        if token.kind == "string":
            if _CONTROL.search(token.text):
                raise InvalidRequest("a text has no control characters")
            return Literal(re.sub(r"\\([\"\\])", r"\1", token.text[1:-1]))
        if token.kind == "number":
            return Literal(_number(token))
        raise _unexpected(token, "a number or a string in double quotes")

    def expect_end(self) -> None:
        if self._peek().kind != "end":
            raise _unexpected(self._peek(), "the end")

    def _any_of(self) -> Condition:
        parts = self._chain("or", self._all)
        return parts[0] if len(parts) == 1 else AnyOf(parts)

    def _all(self) -> Condition:
        parts = self._chain("and", self._negation)
        return parts[0] if len(parts) == 1 else All(parts)

    def _chain(self, keyword: str, part: Callable[[], Condition]) -> tuple[Condition, ...]:
        parts = [part()]
        while self._take("keyword", keyword):
            parts.append(part())
        return tuple(parts)

    def _negation(self) -> Condition:
        if self._take("keyword", "not"):
            return Not(self._nested(self._negation))
        if self._take("sign", "("):
            condition = self._nested(self._any_of)
            self._expect("sign", ")")
            return condition
        return self._predicate()

    def _nested(self, part: Callable[[], Condition]) -> Condition:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge(f"conditions nest at most {MAX_DEPTH} deep")
        condition = part()
        self.depth -= 1
        return condition

    def _predicate(self) -> Condition:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise TooLarge(f"a query has at most {MAX_CONDITIONS} conditions")
        if self._take("keyword", "like"):
            return self._like_call()
        left = self._operand()
        sign = self._peek()
        if sign.kind == "sign" and sign.text in _COMPARISONS:
            self.position += 1
            return Comparison(left, _COMPARISONS[sign.text], self._operand())
        if isinstance(left, Literal):
            raise _unexpected(sign, "a comparison")
        if self._take("keyword", "is"):
            negated = self._take("keyword", "not")
            self._expect("keyword", "null")
            return _negated(IsNull(left), negated)
        negated = self._take("keyword", "not")
        return _negated(self._membership(left), negated)

    def _membership(self, left: Reference) -> Condition:
        if self._take("keyword", "like"):
            return Like(left, self._string())
        if self._take("keyword", "in"):
            return In(left, self._values())
        if self._take("keyword", "between"):
            low = self.literal()
            self._expect("keyword", "and")
            return Between(left, low, self.literal())
        raise _unexpected(self._peek(), "a comparison")

    def _like_call(self) -> Condition:
        self._expect("sign", "(")
        reference = self._operand()
        if not isinstance(reference, Reference):
            raise InvalidRequest("like takes an attribute and a string")
        self._expect("sign", ",")
        pattern = self._string()
        self._expect("sign", ")")
        return Like(reference, pattern)

    def _values(self) -> tuple[Literal, ...]:
        self._expect("sign", "(")
        values = [self.literal()]
        while self._take("sign", ","):
            values.append(self.literal())
        self._expect("sign", ")")
        return tuple(values)

    def _operand(self) -> Operand:
        if self._peek().kind == "word":
            return parse_reference(self._next().text)
        return self.literal()

    def _string(self) -> str:
        literal = self.literal()
        if not isinstance(literal.value, str):
            raise InvalidRequest("like takes an attribute and a string")
        return literal.value

    def _count(self) -> int:
        token = self._next()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            raise _unexpected(token, "a count")
        return int(token.text)

    def _peek(self) -> _Token:
        return self.tokens[self.position]

    def _next(self) -> _Token:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def _take(self, kind: str, text: str) -> bool:
        found = self._peek().kind == kind and self._peek().text == text
        self.position += found
        return found

    def _expect(self, kind: str, text: str) -> None:
        if not self._take(kind, text):
            raise _unexpected(self._peek(), text)


def _negated(condition: Condition, negated: bool) -> Condition:
    return Not(condition) if negated else condition


def _number(token: _Token) -> int | float:
    if re.fullmatch(r"[+-]?[0-9]{1,19}", token.text, re.ASCII):
        return int(token.text)
    value = float(token.text)
    if value in (float("inf"), float("-inf")):
        raise InvalidRequest(f"the number at character {token.position + 1} is out of range")
    return value


def _unexpected(token: _Token, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"the query needs {wanted} at character {token.position + 1}")
