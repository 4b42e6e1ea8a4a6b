"""Several devices: the files beside this one, each in a process with eight virtual devices; processes together."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
FLAGS = "--xla_force_host_platform_device_count=8"


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("on_eight_*.py")))
def test_on_eight_devices(name):
    environment = os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-o",
        f"cache_dir=.pytest_cache/{Path(name).stem}",
        str(HERE / name),
    ]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(name, *arguments):
    command = [sys.executable, "-m", f"tests.devices.{name}", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, cwd=HERE.parents[1], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(processes, timeout):
    """What each has told, or `subprocess.TimeoutExpired`; none of them is left behind."""
    try:
        return [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 1)])
def test_on_several_processes(processes, devices):
    port = free_port()
    told = ended([started("one_of_several", k, processes, devices, port) for k in range(processes)], timeout=300)
    assert [out.splitlines()[-1:] for out, _ in told] == [["ok"]] * processes, told


def test_where_a_process_dies_or_does_not_come_the_other_has_the_error_of_the_runtime(tmp_path):
    """It ends soon, and what it has written is whole; both at once, since they mostly wait."""
    died, missed = tmp_path / "died", tmp_path / "missed"
    died.mkdir()
    missed.mkdir()
    port = free_port()
    processes = [started("one_dies", number, port, died) for number in range(2)]
    processes.append(started("one_dies", 0, free_port(), missed, 5))
    (_, told), _, (_, told_alone) = ended(processes, timeout=240)
    assert processes[1].returncode == -signal.SIGKILL
    assert processes[0].returncode != 0
    assert "jax.errors.JaxRuntimeError" in told, told
    assert [path.name for path in died.iterdir()] == ["before.npy"]
    assert np.isfinite(np.load(died / "before.npy")).all()
    assert processes[2].returncode != 0
    assert "DEADLINE_EXCEEDED" in told_alone, told_alone
    assert list(missed.iterdir()) == []
