"""What the documentation names is there, and what is there is named: files, makers, tests, options."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ROOT / "docs/kinds.md"
MAKERS = {p.stem for p in (ROOT / "tests/live/make").glob("*.c")}
TESTS = {p.stem for group in ("live", "unit", "vm") for p in (ROOT / "tests" / group).glob("test_*")}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not p.relative_to(ROOT).parts[0].startswith("build"))

# CRIU's names that nobody needs to be told of here: other words for options that are, and those without effect.
UNNAMED = {"daemon", "experimental", "libdir", "pre-dump-mode", "file-validation"}
PROGRAMS = {
    "cr": ("cr/cmd/options.c", "cr/cmd/usage.c", UNNAMED),
    "crkexec": ("crkexec/options.c", "crkexec/options.c", {"guard"}),
}


def rows():
    """(line, code, tests) of the table of kinds."""
    for line in KINDS.read_text().splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) == 6 and not cells[1].startswith("---") and cells[4] != "test":
            tests = set(re.findall(r"[\w*/]+", cells[4])) - {"unit", "VM", "tests"}
            yield line, re.findall(r"`([^`]+)`", cells[3]), tests


def is_test(name):
    if "*" in name:
        return any(Path(m).match(name) for m in MAKERS)
    return name in MAKERS | TESTS or (ROOT / f"{name}.py").exists()


def test_the_table_of_kinds_names_code_and_tests_that_exist():
    found = list(rows())
    assert len(found) > 100
    for line, code, tests in found:
        assert all(list((ROOT / "cr").glob(c)) for c in code), line
        assert all(is_test(t) for t in tests), line


def test_every_maker_is_in_the_documentation():
    text = KINDS.read_text() + (ROOT / "docs/criu-compat.md").read_text()
    named = set(re.findall(r"\w+", text))
    assert MAKERS - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    places = [ROOT, page.parent, ROOT / "cr", ROOT / "tests/live", ROOT / "tests/vm", ROOT / "tests/unit"]
    text = page.read_text()
    names = [*re.findall(r"`([\w.*/-]+\.(?:[ch]|py|md|sh|proto))`", text),
             *re.findall(r"\]\(([\w./-]+)\)", text),
             *re.findall(r"`((?:cr|crkexec|docs|scripts|tests)/[\w.*/-]+)`", text)]

    def is_there(name):
        return any(list(p.glob(name)) if "*" in name else (p / name).exists() for p in places)
    assert {n for n in names if "NAME" not in n and not is_there(n)} == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_are_those_of_help_manual_and_completion(program):
    source, usage, unnamed = PROGRAMS[program]
    text = (ROOT / source).read_text()
    table = text[text.index("long_options[]"):]
    known = dict.fromkeys(re.findall(r'\{ "([a-z-]+)", \w+_argument', table), True)
    known |= dict.fromkeys(re.findall(r'SWITCH\("([a-z-]+)"', table), True)
    without = set(re.findall(r'"([a-z-]+)"[^\n]*OPT_(?:IGNORED|REFUSED)', table))
    without |= set(re.findall(r'REFUSED_SWITCH\("([a-z-]+)"', table))
    wanted = {k for k in known if k not in without | unnamed and not k.startswith("no-ext")}
    help_text = (ROOT / usage).read_text().split("long_options[]")[0]
    manual = re.sub(r"\\f[BIR]", "", (ROOT / f"man/{program}.8").read_text().replace("\\-", "-"))
    words = (ROOT / f"completions/{program}").read_text()
    for where, what in (("help", help_text), ("manual", manual), ("completion", words[words.index('"--'):])):
        named = set(re.findall(r"--([a-z][a-z-]*[a-z])", what))
        assert wanted - named == set(), where
        assert {n for n in named - known.keys() if n.removeprefix("no-") not in known} <= {"criu", "no"}, where
