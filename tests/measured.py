"""Reads the tables that the benchmarks print."""

from __future__ import annotations


def read_table(text: str) -> dict[tuple[str, str], float]:
    """Read the measured values by place and subject."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    return {(line[0], line[1]): float(line[2].split()[0]) for line in lines[2:]}
