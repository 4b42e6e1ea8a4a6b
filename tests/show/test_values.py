"""Values against substitution."""

import jax.numpy as jnp
import sympy

from backsolve import Graph, I, O, System, diagonal, linear_map, linearize, matrix, vector
from backsolve.algebra import Counting, MinPlus
from backsolve.show import page
from backsolve.show.model import picture_of
from backsolve.show.values import vectors

from .test_steps import several
from .things import captured, figure_1, scalar_net


def named(picture, values):
    return {picture.vertices[v].name: text for v, text in values.items()}


def test_vectors_of_a_graph_keep_the_order_of_products():
    picture = picture_of(figure_1())
    a, b, c, d = sympy.symbols("a b c d", commutative=False)
    found = vectors(picture).found
    assert named(picture, found["reverse"]) == {
        "5": "1",
        "4": "d",
        "3": str(c * d),
        "2": str(b * c * d),
        "1": str(a * c * d),
    }
    assert named(picture, found["forward"])["4"] == str((a + b) * c)


def test_vectors_of_a_system_are_those_of_substitution():
    system = scalar_net()
    picture = picture_of(system)
    found = vectors(picture).found
    gradient = system.vjp(vector([1.0]))
    assert [named(picture, found["reverse"])[f"p{j}"] for j in range(6)] == [f"{g:.4g}" for g in gradient]
    change = system.jvp(vector([1.0] * 6))
    assert named(picture, found["forward"])["y0"] == f"{change[0]:.4g}"


def test_vectors_of_arrays_are_norms():
    picture = picture_of(captured(1))
    assert named(picture, vectors(picture).found["reverse"])["x0"].startswith("‖·‖ ")


def test_a_page_without_values_says_why():
    odd = Graph({("a", "b"): MinPlus(1), ("b", "c"): Counting(1)})
    one_way = linear_map(lambda x: 2 * x, None, (3,), (3,))
    nodes = matrix([[O, O], [one_way, O]])
    notes = {
        "matrix": (vectors(picture_of(matrix([[0, 0], [1, 0]]))), "a matrix alone has no right-hand side"),
        "odd": (vectors(picture_of(odd)), "for forward substitution: "),
        "no transpose": (vectors(picture_of(System(diagonal([I, I]), nodes, matrix([[O, I]])))), "for back substitution: "),
        "plan": (vectors(picture_of(linearize(several, 1.0, 2.0, 3.0).plan().outline)), "a plan keeps shapes, not arrays"),
        "many": (vectors(picture_of(Graph({(k, k + 1): 1.0 for k in range(2_000)}))), "beyond 2,000 vertices"),
        "large": (vectors(picture_of(linearize(jnp.sin, jnp.zeros(5_000_000)))), "more than 10,000,000 numbers"),
    }
    for name, (values, note) in notes.items():
        assert values.note.startswith("No values are filled in"), name
        assert note in values.note, name
    assert "reverse" not in notes["no transpose"][0].found
    assert note in page(linearize(jnp.sin, jnp.zeros(5_000_000)))
