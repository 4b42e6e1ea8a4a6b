"""Local derivatives in symbols: of sin(xy) by xy it is cos(xy); and short names for the leaves of a tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Symbols", "short_names", "telling"]

LONG, LONGEST = 12, 22  # characters of an expression, of a derivative; beyond, the names of nodes stand for them
NAME = 16  # characters of a source's name
ATOM, POWER, TIMES, PLUS = 3, 2, 1, 0  # how tightly an expression holds together


class Text(NamedTuple):
    """An expression, and how tightly it holds together."""

    text: str
    tight: int = ATOM

    def inside(self, tight: int) -> str:
        """The expression where something this tight is needed."""
        return self.text if self.tight >= tight else f"({self.text})"


_LETTER = re.compile(r"[^\W\d_][⁰¹²³⁴-⁹]*|\d+(\.\d+)?")  # or a number


def _times(*parts: Text) -> Text:
    """A product; letters stand side by side."""
    parts = tuple(p for p in parts if p.text != "1")
    if not parts:
        return Text("1")
    if len(parts) == 1:
        return parts[0]
    texts = [p.inside(TIMES) for p in parts]
    sign = "−" if texts[0] == "−1" else ""
    texts = texts[1:] if sign else texts
    plain = all(map(_LETTER.fullmatch, texts)) and not re.search(r"[0-9]", "".join(texts[1:]))
    return Text(sign + ("" if plain else "·").join(texts), TIMES)


def _product(a: Text, b: Text) -> Text:
    if a.text == b.text:
        return _power(a, 2)
    return _times(b, a) if re.fullmatch(r"[\d.]+", b.text) else _times(a, b)


def _over(a: Text, b: Text) -> Text:
    return Text(f"{a.inside(TIMES)}/{b.inside(POWER)}", TIMES)


def _power(a: Text, n: float) -> Text:
    if n == 1:
        return a
    up = "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] if c.isdigit() else {"-": "⁻"}.get(c, c) for c in f"{n:g}")
    return Text(f"{a.inside(ATOM)}{up}" if re.fullmatch(r"[⁻⁰-⁹¹²³]+", up) else f"{a.inside(ATOM)}^{n:g}", POWER)


def _minus(a: Text) -> Text:
    text = a.inside(TIMES)
    return Text(text[1:] if text.startswith("−") else f"−{text}", TIMES)


def _plus(a: Text, b: Text, sign: str = "+") -> Text:
    return Text(f"{a.text} {sign} {b.inside(TIMES if sign == '−' else PLUS)}", PLUS)


def _call(name: str, *parts: Text) -> Text:
    return Text(f"{name}({', '.join(p.text for p in parts)})")


def _number(x: float) -> Text:
    return Text(f"{x:g}".replace("-", "−"), ATOM if x >= 0 else TIMES)


ONE, TWO = _number(1), _number(2)
Rule = Callable[..., Any]

# What a primitive computes, of its operands and parameters; of any that is not here, its node's name.
VALUE: dict[str, Rule] = {
    "add": lambda a, b, **_: _plus(a, b),
    "add_any": lambda a, b, **_: _plus(a, b),
    "sub": lambda a, b, **_: _plus(a, b, "−"),
    "mul": lambda a, b, **_: _product(a, b),
    "div": lambda a, b, **_: _over(a, b),
    "neg": lambda a, **_: _minus(a),
    "integer_pow": lambda a, y, **_: _power(a, y),
    "square": lambda a, **_: _power(a, 2),
    "exp": lambda a, **_: _call("exp", a),
    "exp2": lambda a, **_: _call("exp2", a),
    "sqrt": lambda a, **_: _call("√", a) if a.tight < ATOM else Text(f"√{a.text}"),
    "abs": lambda a, **_: Text(f"|{a.text}|"),
    "logistic": lambda a, **_: _call("σ", a),
    "pow": lambda a, b, **_: Text(f"{a.inside(ATOM)}^{b.inside(ATOM)}", POWER),
    **{
        name: (lambda a, _name=name, **_: _call(_name, a))
        for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "log", "log1p", "expm1", "asin", "acos", "atan", "erf")
    },
    **{name: (lambda a, b, _name=name, **_: _call(_name, a, b)) for name in ("max", "min")},
}

# What leaves its operand as it is, or only moves it.
SAME = {"convert_element_type", "copy", "copy_p", "squeeze", "reshape", "broadcast_in_dim", "expand_dims", "stop_gradient"}

# The partial derivative by each operand, of the operands, the result ``y`` and the parameters.
DERIVATIVE: dict[str, Sequence[Rule]] = {
    "add": [lambda *_, **__: ONE] * 2,
    "add_any": [lambda *_, **__: ONE] * 2,
    "sub": [lambda *_, **__: ONE, lambda *_, **__: _number(-1)],
    "mul": [lambda a, b, **_: b, lambda a, b, **_: a],
    "div": [lambda a, b, **_: _over(ONE, b), lambda a, b, **_: _over(_minus(a), _power(b, 2))],
    "neg": [lambda *_, **__: _number(-1)],
    "integer_pow": [lambda a, y, **_: _times(_number(y), _power(a, y - 1)) if y != 0 else _number(0)],
    "square": [lambda a, **_: _times(TWO, a)],
    "exp": [lambda a, **_: _call("exp", a)],
    "log": [lambda a, **_: _over(ONE, a)],
    "log1p": [lambda a, **_: _over(ONE, _plus(ONE, a))],
    "expm1": [lambda a, **_: _call("exp", a)],
    "sin": [lambda a, **_: _call("cos", a)],
    "cos": [lambda a, **_: _minus(_call("sin", a))],
    "tan": [lambda a, **_: _plus(ONE, _power(_call("tan", a), 2))],
    "sinh": [lambda a, **_: _call("cosh", a)],
    "cosh": [lambda a, **_: _call("sinh", a)],
    "tanh": [lambda a, **_: _plus(ONE, Text(f"tanh²({a.text})"), "−")],
    "logistic": [lambda a, **_: _times(_call("σ", a), _call("σ", _minus(a)))],
    "sqrt": [lambda a, **_: _over(ONE, _times(TWO, _call("√", a) if a.tight < ATOM else Text(f"√{a.text}")))],
    "abs": [lambda a, **_: _call("sign", a)],
    "asin": [lambda a, **_: _over(ONE, _call("√", _plus(ONE, _power(a, 2), "−")))],
    "acos": [lambda a, **_: _over(_number(-1), _call("√", _plus(ONE, _power(a, 2), "−")))],
    "max": [lambda a, b, **_: Text(f"[{a.text} > {b.text}]"), lambda a, b, **_: Text(f"[{b.text} > {a.text}]")],
    "min": [lambda a, b, **_: Text(f"[{a.text} < {b.text}]"), lambda a, b, **_: Text(f"[{b.text} < {a.text}]")],
}


class Symbols:
    """Expressions of a captured system's nodes, and the derivatives on its edges."""

    def __init__(self, operations: Any, nodes: int, sources: Sequence[str]) -> None:
        """``operations(i)`` is the primitive, the parameters and the operands of node i, or None."""
        self._operations = [operations(i) for i in range(nodes)]
        self._sources = [Text(name) for name in sources]
        self._values: list[Text] = []
        for i, operation in enumerate(self._operations):
            text = None if operation is None else self._value(*operation)
            self._values.append(Text(f"x{i}") if text is None or len(text.text) > LONG else text)

    def _operand(self, operand: Any, expanded: bool = True) -> Text:
        if isinstance(operand, float):
            return _number(operand)
        if operand >= 0:
            return self._values[operand] if expanded and operand < len(self._values) else Text(f"x{operand}")
        source = self._sources[-1 - operand]
        return source if len(source.text) <= NAME else Text(f"p{-1 - operand}")

    def _value(self, name: str, params: Mapping[str, Any], operands: Sequence[Any]) -> Text | None:
        if None in operands:
            return None
        texts = [self._operand(x) for x in operands]
        if name in SAME:
            return texts[0]
        if name == "slice" and len(params["start_indices"]) == 1 and texts[0].tight == ATOM:
            start, stop = params["start_indices"][0], params["limit_indices"][0]
            return Text(f"{texts[0].text}[{start}]" if stop == start + 1 else f"{texts[0].text}[{start}:{stop}]")
        rule = VALUE.get(name)
        return None if rule is None else rule(*texts, **params)

    def derivative(self, node: int, by: int) -> str | None:
        """The derivative of a node by another (−1, −2, … of a source), None where no rule here says it."""
        operation = self._operations[node]
        if operation is None or operation[0] not in DERIVATIVE or None in operation[2]:
            return None
        expanded_form = self._derivative(operation, by, expanded=True)
        return expanded_form if len(expanded_form) <= LONGEST else self._derivative(operation, by, expanded=False)

    def _derivative(self, operation: tuple[str, Mapping[str, Any], Sequence[Any]], by: int, *, expanded: bool) -> str:
        name, params, operands = operation
        texts = [self._operand(x, expanded) for x in operands]
        parts = [rule(*texts, **params).text for rule, x in zip(DERIVATIVE[name], operands, strict=True) if _is(x, by)]
        if len(parts) == 2 and parts[0] == parts[1]:
            return _times(TWO, Text(parts[0], PLUS if " " in parts[0] else ATOM)).text
        return " + ".join(parts)

    def factor(self, node: int, by: int, ranks: tuple[int, int]) -> str | None:
        """What a product of two matrices or vectors multiplies one of them with, as ``(W)ᴸ``, ``(x)ᴿ`` or ``(x)ᵀ•``.

        ``ranks`` are the numbers of axes of this one and of the product.
        """
        operation = self._operations[node]
        if operation is None or operation[0] != "dot_general":
            return None
        _, params, operands = operation
        (left, right), (batch, _) = params["dimension_numbers"]
        if batch or None in operands or _is(operands[0], by) == _is(operands[1], by):
            return None
        k = 0 if _is(operands[0], by) else 1
        other_rank = ranks[1] + 2 - ranks[0]
        axes = (ranks[0], other_rank) if k == 0 else (other_rank, ranks[0])
        if (tuple(left), tuple(right)) != ((axes[0] - 1,), (0,)) or max(axes) > 2:
            return None
        return f"({self._operand(operands[1 - k]).text}){'ᵀ•' if axes == (1, 1) else 'ᴿᴸ'[k]}"


def _is(operand: Any, vertex: int) -> bool:
    """Whether an operand is this vertex, and no literal."""
    return isinstance(operand, int) and operand == vertex


_PART = re.compile(r"\[(?:'([^']*)'|([^\]]*))\]|\.(\w+)|([^\[\].]+)")


def short_names(names: Sequence[str]) -> list[str]:
    """The ends of these names, as long as it takes to tell them apart.

    Example:
        >>> short_names(["params['a']['kernel']", "params['b']['kernel']", "params['b']['bias']", "x", "w[0]", "w[1]"])
        ['a.kernel', 'b.kernel', 'bias', 'x', 'w[0]', 'w[1]']
    """
    split = [[_spelled(match) for match in _PART.finditer(name)] or [name] for name in names]
    shortened = []
    for k, parts in enumerate(split):
        rest = [other for n, other in enumerate(split) if n != k]
        length = 1
        while length < len(parts) and (
            parts[-length].startswith("[") or any(other[-length:] == parts[-length:] for other in rest)
        ):
            length += 1
        shortened.append(".".join(parts[-length:]).replace(".[", "["))
    return shortened


def telling(names: Sequence[str], width: int = 24) -> list[str]:
    """These names, of the long ones the ends that tell them apart.

    Example:
        >>> telling(["parameters['encoder']['kernel']", "parameters['encoder']['bias']", "x"])
        ["…['kernel']", "…['bias']", 'x']
    """
    split = [[match[0] for match in _PART.finditer(name)] or [name] for name in names]
    labels = []
    for k, (name, parts) in enumerate(zip(names, split, strict=True)):
        rest = [other for n, other in enumerate(split) if n != k]
        length = 1
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in rest):
            length += 1
        end = "".join(parts[-length:])
        end = end if len(end) < width else end[-(width - 1) :]
        labels.append(name if len(name) <= width else f"…{end}")
    return labels


def _spelled(match: re.Match[str]) -> str:
    key, index, attribute, base = match.groups()
    return key if key is not None else f"[{index}]" if index is not None else attribute or base
