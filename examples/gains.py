"""A line of print for each way to the same answer."""

from __future__ import annotations


def gains(what: str, seconds: dict[str, float]) -> None:
    """Print the times of the ways, the first ours, and how many times longer the others take."""
    (_, ours), *_ = seconds.items()
    print(f"{what}:")
    for name, taken in seconds.items():
        print(f"  {name:<32}{taken:9.3f} s{'' if taken == ours else f'   ({taken / ours:.1f} × ours)'}", flush=True)
