"""The matrix as a table of docs/criu-compat.md."""

from interop.limits import LIMITS, WAYS
from interop.programs import PLAIN


def cell(name, way, result):
    if result["outcome"] == "ok":
        return "yes, in part" if name in PLAIN else "yes"
    return "no"


def remark(name):
    """Why not, or what is left out; once, when it is the same both ways."""
    whys = dict.fromkeys(LIMITS[name, way].why for way in WAYS if (name, way) in LIMITS)
    if name in PLAIN:
        whys[PLAIN[name]] = None
    return "; ".join(whys)


def lines(results):
    yield "| program | cr → criu | criu → cr | remark |"
    yield "|---|---|---|---|"
    for name, both in results.items():
        cells = " | ".join(cell(name, *pair) for pair in zip(WAYS, both))
        yield f"| {name} | {cells} | {remark(name)} |"
