"""Linear algebra, transforms, random numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from jax import lax
from jax._src.lax import linalg as lax_linalg

from .oracle import complex_normal, normal, positive, spd
from .zoo_case import Case, case

A = normal(4, 4) + 4 * np.eye(4)
B = normal(4, 2)
S = spd(4)
C = complex_normal(4, 4) + 4 * np.eye(4)
V = normal(8)


def _symmetric(f):
    """f of the symmetric part, as f reads only one triangle."""
    return lambda x: f((x + x.swapaxes(-1, -2).conj()) / 2)


def _eigh(x):
    """Values and the projectors on them: the vectors' signs are not determined, but are the same in both computations."""
    w, v = jnp.linalg.eigh((x + x.swapaxes(-1, -2).conj()) / 2)
    return w, v * v.conj()


def _key():
    return jax.random.key(3)


def _random(draw):
    return lambda x: x * draw(_key())


SPECIAL: dict[str, list[Case]] = {
    "cholesky": [
        case(_symmetric(jnp.linalg.cholesky), S),
        case(jnp.linalg.cholesky, S),
        case(_symmetric(jnp.linalg.cholesky), C @ C.conj().T),
        case(jnp.linalg.cholesky, np.stack([S, 2 * S])),
    ],
    "qr": [case(jnp.linalg.qr, A), case(jnp.linalg.qr, normal(5, 3)), case(jnp.linalg.qr, C)],
    "svd": [
        case(lambda x: jnp.linalg.svd(x, full_matrices=False), normal(4, 3)),
        case(lambda x: jnp.linalg.svd(x, compute_uv=False), A),
        case(lambda x: jnp.linalg.norm(x, 2), A),
        case(lambda x: jnp.linalg.svd(x, full_matrices=False)[1], C),
        case(jnp.linalg.pinv, normal(4, 3)),
    ],
    "eigh": [case(_eigh, S), case(_eigh, C), case(lambda x: jnp.linalg.eigvalsh(x), S)],
    "eig": [case(lambda x: jnp.linalg.eigvals(x), A), case(lambda x: jnp.linalg.eigvals(x), C)],
    "lu": [
        case(lax_linalg.lu, A),
        case(lambda x: lax_linalg.lu(x)[0], normal(5, 3)),
        case(lambda x: lax_linalg.lu(x)[0], C),
        case(lambda x: jsp.linalg.lu(x)[1:], A),
        case(jnp.linalg.det, normal(5, 5)),
        case(lambda x: jnp.linalg.slogdet(x)[1], A),
    ],
    "custom_linear_solve": [
        case(jnp.linalg.solve, A, B),
        case(jnp.linalg.inv, A),
        case(jnp.linalg.solve, C, complex_normal(4, 2)),
        case(lambda x: jnp.linalg.solve(x, x), A),
        case(jax.vmap(jnp.linalg.solve), np.stack([A, A.T]), np.stack([B, 2 * B])),
        case(
            lambda b: lax.custom_linear_solve(lambda x: S @ x, b, lambda m, r: jnp.linalg.solve(S, r), symmetric=True), V[:4]
        ),
        case(
            lambda x, b: jsp.sparse.linalg.cg(lambda v: (x @ x.T + jnp.eye(4)) @ v, b, tol=1e-14, maxiter=50)[0],
            A,
            V[:4],
            rtol=1e-7,
        ),
        case(lambda x: jsp.linalg.expm(x, max_squarings=1), A / 8),
    ],
    "triangular_solve": [
        case(lambda a, b: jsp.linalg.solve_triangular(a, b, lower=True), A, B),
        case(lambda a, b: lax_linalg.triangular_solve(a, b, left_side=False, transpose_a=True), A, normal(2, 4)),
        case(lambda a, b: lax_linalg.triangular_solve(a, b, left_side=True, unit_diagonal=True), A, B),
        case(
            lambda a, b: lax_linalg.triangular_solve(a, b, left_side=True, conjugate_a=True, transpose_a=True),
            C,
            complex_normal(4, 2),
        ),
        case(lambda b: lax_linalg.triangular_solve(jnp.asarray(A), b, left_side=True), B),
        case(lambda s, b: jsp.linalg.cho_solve(jsp.linalg.cho_factor(s), b), S, B),
    ],
    "tridiagonal_solve": [
        case(
            lambda l, d, u, b: lax_linalg.tridiagonal_solve(l.at[0].set(0), d, u.at[-1].set(0), b),
            V[:4],
            positive(4) + 4,
            V[4:],
            B,
        )
    ],
    "fft": [
        case(lambda x: jnp.fft.fft(x), complex_normal(8)),
        case(lambda x: jnp.fft.ifft(x), complex_normal(3, 4)),
        case(lambda x: jnp.fft.rfft(x), V),
        case(lambda x: jnp.fft.rfft(x), V[:7]),
        case(lambda x: jnp.fft.irfft(x), complex_normal(5)),
        case(lambda x: jnp.fft.fft2(x), normal(4, 4)),
        case(lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, V),
    ],
    "random_gamma": [
        case(lambda a: jax.random.gamma(_key(), a), positive(3)),
        case(lambda a: jax.random.dirichlet(_key(), a), positive(3)),
    ],
    "random_bits": [case(_random(lambda k: jax.random.normal(k, (8,))), V)],
    "random_split": [case(_random(lambda k: jax.random.uniform(jax.random.split(k)[0])), V)],
    "random_fold_in": [case(_random(lambda k: jax.random.uniform(jax.random.fold_in(k, 3))), V)],
    "random_wrap": [case(lambda x: x * jax.random.uniform(jax.random.wrap_key_data(jnp.array([1, 2], jnp.uint32))), V)],
    "random_unwrap": [case(lambda x: x * jax.random.key_data(_key())[0], V)],
    "random_seed": [case(lambda x: x * jax.random.uniform(jax.random.key(4)), V)],
}
