"""What remains opaque over JAX's whole registry is what the page of loops lists: the list must not grow unseen."""

import re
from pathlib import Path

import jax.lax.linalg  # registers its primitives
from jax._src.interpreters import ad  # the oracle: all primitives with a rule of transposition

from backsolve.capture.inside import RULES
from backsolve.capture.record import record_of, unknown
from backsolve.tracing.kinds import Kind

PAGE = Path(__file__).parents[2] / "docs" / "loops.md"
ENTERED = {"jit", "closed_call", "custom_jvp_call", "optimization_barrier"}  # called, spliced in, or passed on


def known(name):
    record = record_of(name)
    told = record.edge is not unknown or record.edges or record.index_map or record.pattern or record.axes
    return bool(told) or record.kind is not Kind.OTHER or name in RULES or name in ENTERED


def test_the_page_lists_what_is_opaque():
    assert jax.lax.linalg
    linear = {primitive.name for primitive in ad.primitive_transposes} | {p.name for p in ad.fancy_transposes}
    listed = PAGE.read_text(encoding="utf-8").split("these are:", 1)[1].split("Everything else", 1)[0]
    names = set(re.findall(r"`(\w[\w-]*)`", listed))
    assert {name for name in linear if not known(name)} == names & linear
    assert not {name for name in names if known(name)}
