#!/usr/bin/python3
"""run.py one PROGRAM FROM-TO DIR: one program through both engines ("cr-criu": dumped by cr).
run.py all MAKERS OPTIONS RESULTS JOBS PROGRAM...: the whole matrix, JOBS at a time, with Debian 13's
criu, then with that of testing if it is there.

Runs where the engines are: in the guest. MAKERS is the directory of makers, OPTIONS a JSON
object with their options. RESULTS gets a file PROGRAM.FROM-TO.json for each, when it is done.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

sys.dont_write_bytecode = True

import engines                                                      # noqa: E402
from procs import Failure, proc_state, reap_children, wait_for     # noqa: E402
from limits import WAYS                                            # noqa: E402
from programs import ONE_BY_ONE, PROGRAMS, Maker, Skip, is_alive               # noqa: E402

HERE = Path(__file__).resolve().parent


def become_parent_of_restored_trees():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap(images):
    """Waits until the dumped tree is gone."""
    pids = [int(p.stem.partition("-")[2]) for p in images.glob("core-*.img")]

    def gone():
        reap_children()
        return not any(proc_state(pid) for pid in pids)
    wait_for(gone, 60, f"the end of {pids}")


def end_session(pid):
    """What is left of a tree, whatever became of it."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid or stat.parent.name == str(pid):
            try:
                os.kill(int(stat.parent.name), signal.SIGKILL)
            except ProcessLookupError:
                pass


def check_decodes(images):
    done = subprocess.run([sys.executable, HERE / "decode.py", images], capture_output=True,
                          text=True, check=False)
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def dump(program, engine, images):
    """Returns the directory of the last dump, which may need those of the ones before it."""
    options = [*(arg for pid in program.roots() for arg in ("-t", str(pid))), *program.options]
    if program.pre_dumps:
        options.append("--track-mem")
    for n in range(program.pre_dumps):
        into = images / f"pre-{n}"
        into.mkdir()
        engines.run(engine, "pre-dump", into, *options, *chain(n))
        program.between()
    images = images / "last"
    images.mkdir()
    engines.run(engine, "dump", images, *options, *chain(program.pre_dumps))
    return images


def chain(n):
    return ["--prev-images-dir", f"../pre-{n - 1}"] if n else []


def through_both(program, way, images, result):
    dumper, restorer = way.split("-")
    program.start()
    program.before()
    images = dump(program, dumper, images)
    program.popen.wait(60)
    reap(images)
    if dumper == "cr":
        result["undecoded"] = check_decodes(images.parent)
    engines.run(restorer, "restore", images, "-d", *program.options)
    if not is_alive(program.pid):
        raise Failure(f"process {program.pid} is not there after the restore: {program.output()}")
    program.after()


def one(program, way, images):
    become_parent_of_restored_trees()
    result = {"outcome": "ok"}
    try:
        through_both(program, way, images, result)
    except Skip as e:
        result |= {"outcome": "skip", "why": str(e)}
    except engines.EngineFailure as e:
        result |= {"outcome": f"{e.engine} {e.verb}", "why": e.line,
                   "log": "\n".join(e.log.splitlines()[-40:])}
    except (Failure, OSError, subprocess.SubprocessError) as e:
        result |= {"outcome": "program", "why": " ".join(str(e).split()),
                   "log": traceback.format_exc()}
    finally:
        for pid in program.roots():
            end_session(pid)
    return result


def make_program(name, directory, makers, options):
    if name in PROGRAMS:
        return PROGRAMS[name](directory)
    return Maker(directory, makers / name, options[name])


def main_one(name, way, makers, options, results):
    directory = Path("/var/tmp/interop") / f"{name}.{way}"
    shutil.rmtree(directory, ignore_errors=True)
    images = directory / "images"
    images.mkdir(parents=True)
    directory.chmod(0o755)
    program = make_program(name, directory, makers, options)
    result = one(program, way, images)
    part = results / f".{name}.{way}"
    part.write_text(json.dumps(result))
    part.rename(results / f"{name}.{way}.json")
    if result["outcome"] == "ok":
        shutil.rmtree(directory, ignore_errors=True)


def main():
    verb, *args = sys.argv[1:]
    makers, options, results = map(Path, args[:3])
    results.mkdir(parents=True, exist_ok=True)
    if verb == "one":
        main_one(*args[3:5], makers, json.loads(options.read_text()), results)
        return
    jobs, names = int(args[3]), args[4:]
    engines_there = [e for e in WAYS if e != "testing" or engines.TESTING.exists()]
    cases = [(name, WAYS[engine]) for engine in engines_there for name in names]

    terminals = Lock()

    def both_ways(name, ways):
        # One after the other: both want the same port, key or name.
        with terminals if name in ONE_BY_ONE else nullcontext():
            for way in ways:
                subprocess.run([sys.executable, __file__, "one", makers, options, results, name,
                                way], check=False)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(both_ways, *zip(*cases)))


main()
