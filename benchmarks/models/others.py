"""The gradients of the peers that do not read JAX, where they are installed and can take the model."""

from __future__ import annotations

from benchmarks.models.functions import Model
from benchmarks.runner import Contestant, optional

SAME_WITHOUT_SCAN = "ode_scan"  # torch.compile would write its loop out, and compile the unrolled model once more


def contestants(model: Model, *, compile: bool) -> tuple[dict[str, Contestant | None], dict[str, str]]:
    """The peers' gradients as calls without arguments, None where absent; and why, by peer."""
    calls: dict[str, Contestant | None] = {"PyTorch": None, "torch.compile": None, "autograd": None}
    reasons: dict[str, str] = {}
    if optional("torch") is None:
        reasons["PyTorch"] = "not installed"
    else:
        from benchmarks.models import in_torch

        calls["PyTorch"] = in_torch.contestant(model, compiled=False)
        if not compile:
            reasons["torch.compile"] = "left out, as it takes minutes"
        elif model.kind == SAME_WITHOUT_SCAN:
            reasons["torch.compile"] = "the same program as the unrolled one"
        else:
            try:
                calls["torch.compile"] = in_torch.contestant(model, compiled=True)
            except Exception as error:  # noqa: BLE001  whatever it is: this machine has no torch.compile for it
                reasons["torch.compile"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
    if optional("autograd") is None:
        reasons["autograd"] = "not installed"
    else:
        from benchmarks.models import in_autograd

        calls["autograd"] = in_autograd.contestant(model)
        if calls["autograd"] is None:
            reasons["autograd"] = "not written for it"
    return calls, reasons
