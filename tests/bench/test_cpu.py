"""CPU accounting, against what real processes say of themselves."""

import subprocess
import sys

import pytest

from tests.bench.cpu import cpu_seconds

BURN_S = 0.3
TICKS_S = 0.1
"""Rounding to ticks of 10 ms, three processes, start and end; well below what one of them burns."""

FAMILY = f"""
import os, subprocess, sys, time

def burn():
    while time.process_time() < {BURN_S}:
        pass

if sys.argv[1] == "ends":
    burn()
elif sys.argv[1] == "stays":
    burn()
    print(sum(os.times()[:4]), flush=True)
    sys.stdin.read()
else:
    subprocess.run([sys.executable, "-c", sys.argv[2], "ends"], check=True)
    burn()
    stays = subprocess.Popen([sys.executable, "-c", sys.argv[2], "stays"], stdout=subprocess.PIPE)
    theirs = float(stays.stdout.readline())
    print(sum(os.times()[:4]) + theirs, flush=True)
    sys.stdin.read()
"""


def test_the_living_and_the_dead_count_once_each() -> None:
    command = [sys.executable, "-c", FAMILY, "root", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        told = float(root.stdout.readline())
        assert told > 3 * BURN_S - TICKS_S
        assert cpu_seconds(root.pid) == pytest.approx(told, abs=TICKS_S)
        root.communicate()
    assert cpu_seconds(root.pid) == 0.0
