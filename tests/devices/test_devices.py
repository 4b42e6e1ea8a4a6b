"""Several devices: the files beside this one, each in a process with eight virtual devices; processes together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = "--xla_force_host_platform_device_count=8"


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("on_eight_*.py")))
def test_on_eight_devices(name):
    environment = os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(HERE / name)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (4, 1)])
def test_on_several_processes(processes, devices):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    script = str(HERE / "one_of_several.py")
    commands = [[sys.executable, script, *map(str, (k, processes, devices, port))] for k in range(processes)]
    started = [
        subprocess.Popen(c, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    try:
        told = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [out.splitlines()[-1:] for out, _ in told] == [["ok"]] * processes, told
