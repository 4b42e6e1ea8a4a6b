"""What remains opaque over JAX's whole registry is what the page of loops lists: the list must not grow unseen."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "loops.md"
REGISTRY = """
import json
import jax.lax.linalg  # registers its primitives
import backsolve.capture.linearized  # and this all records
from jax._src.interpreters import ad  # the oracle: all primitives with a rule of transposition
from backsolve.capture.inside import RULES
from backsolve.tracing.jaxpr import record_of, unknown
from backsolve.tracing.jaxpr import Kind

ENTERED = {"jit", "closed_call", "custom_jvp_call", "optimization_barrier"}  # called, spliced in, or passed on

def known(name):
    record = record_of(name)
    told = record.edge is not unknown or record.edges or record.index_map or record.pattern or record.axes
    return bool(told) or record.kind is not Kind.OTHER or name in RULES or name in ENTERED

names = {primitive.name for primitive in ad.primitive_transposes} | {p.name for p in ad.fancy_transposes}
print(json.dumps({name: known(name) for name in names}))
"""


def test_the_page_lists_what_is_opaque():
    """In a process of its own, where no test has added primitives."""
    done = subprocess.run([sys.executable, "-c", REGISTRY], capture_output=True, text=True, check=True, timeout=120)
    known = json.loads(done.stdout)
    listed = PAGE.read_text(encoding="utf-8").split("these are:", 1)[1].split("Everything else", 1)[0]
    names = set(re.findall(r"`(\w[\w-]*)`", listed))
    assert {name for name, told in known.items() if not told} == names & known.keys()
    assert not {name for name in names if known.get(name)}
