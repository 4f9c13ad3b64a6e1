"""The serial console: every line with the host's time, in a file and for waiting on.

The times are the phase marks of an upgrade ("Starting new kernel", "Linux version").  A line's
time is that of its end: systemd writes terminal resets without one, and what the kernel prints
many seconds later continues the same line.
"""

import os
import re
import threading
import time

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?=!]*[A-Za-z]|[()][A-Z0-9]|[=>78cM]|\][^\x07]*\x07)")
_PANIC = re.compile(r"Kernel panic - not syncing")


class ConsoleError(Exception):
    pass


class Console:
    def __init__(self, fd, log_path, tee=None):
        """Read fd until its end; tee is called with the raw bytes."""
        self._fd = fd
        self._tee = tee
        self._log = open(log_path, "w", encoding="utf-8")
        self._changed = threading.Condition()
        self.start = time.monotonic()
        self.lines = []         # (monotonic time, text)
        self.closed = False
        self.panic = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        pending = b""
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:
                data = b""
            now = time.monotonic()
            if not data:
                break
            if self._tee:
                self._tee(data)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._add(now, line)
        if pending:
            self._add(time.monotonic(), pending)
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._log.close()

    def _add(self, when, raw):
        text = _ESCAPES.sub("", raw.decode("utf-8", "replace")).strip("\r")
        wall = time.time() - (time.monotonic() - when)
        stamp = time.strftime("%H:%M:%S", time.localtime(wall)) + f".{int(wall * 1000) % 1000:03d}"
        self._log.write(f"{stamp} {when - self.start:9.3f}  {text}\n")
        self._log.flush()
        with self._changed:
            self.lines.append((when, text))
            if _PANIC.search(text):
                self.panic = text
            self._changed.notify_all()

    def mark(self):
        """A position in the console for wait(since=…)."""
        with self._changed:
            return len(self.lines)

    def wait(self, pattern, timeout, since=0):
        """Wait for a line that matches; returns (monotonic time, match)."""
        regex = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for when, text in self.lines[since:]:
                    m = regex.search(text)
                    if m:
                        return when, m
                since = len(self.lines)
                left = deadline - time.monotonic()
                if self.closed or left <= 0:
                    why = "QEMU ended" if self.closed else f"not within {timeout:.0f} s"
                    raise ConsoleError(f"console line /{pattern}/: {why}; last lines:\n"
                                       + self.tail_locked(15))
                self._changed.wait(left)

    def tail_locked(self, count):
        return "\n".join("    " + text for _, text in self.lines[-count:])

    def tail(self, count=15):
        with self._changed:
            return self.tail_locked(count)

    def join(self, timeout=5):
        self._thread.join(timeout)
