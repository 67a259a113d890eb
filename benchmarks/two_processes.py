"""The script that torchrun starts for `python -m benchmarks accelerate`."""

from __future__ import annotations

import tyro

from benchmarks.training import in_two_processes

if __name__ == "__main__":
    tyro.cli(tyro.conf.configure(tyro.conf.PositionalRequiredArgs)(in_two_processes))
