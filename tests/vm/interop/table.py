"""The matrix as a table of docs/criu-compat.md."""

from interop.limits import WAYS, limit_of
from interop.programs import PLAIN

ALL_WAYS = [way for ways in WAYS.values() for way in ways]


def recorded(name, way):
    """Whether it works, as the tests have it."""
    return limit_of(name, way) is None


def cell(name, works):
    if not works:
        return "no"
    return "yes, in part" if name in PLAIN else "yes"


def remark(name):
    """Why not, or what is left out; once, when it is the same each way."""
    limits = filter(None, (limit_of(name, way) for way in ALL_WAYS))
    whys = dict.fromkeys(limit.why for limit in limits)
    if name in PLAIN:
        whys[PLAIN[name]] = None
    return "; ".join(whys)


def lines(results):
    """results: {program: [whether it works, for each way]}"""
    yield "| program | cr → 4.1.1 | 4.1.1 → cr | cr → testing | testing → cr | remark |"
    yield "|---|---|---|---|---|---|"
    for name, each in results.items():
        cells = " | ".join(cell(name, works) for works in each)
        yield f"| {name} | {cells} | {remark(name)} |"
