"""The host's end of the control channel to the guest (see guest-agent).

The channel outlives kernels: the guest's agent comes back after each kexec and reboot and says
hello with its boot id.  Requests that were under way are then lost, and AgentLost is raised
for them; nothing is ever repeated behind the test's back.
"""

import base64
import itertools
import json
import socket
import threading
import time

CHUNK = 192 * 1024


class AgentError(Exception):
    pass


class AgentTimeout(AgentError):
    pass


class AgentLost(AgentError):
    """The guest restarted, or QEMU ended, while a request was under way."""


class Agent:
    def __init__(self, socket_path, check_alive=lambda: None):
        """check_alive is called every second of waiting; it raises when waiting is pointless."""
        self._check_alive = check_alive
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.connect(socket_path)
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        self._send_lock = threading.Lock()
        self._waiting = set()
        self._answers = {}
        self.closed = False
        self.hellos = []        # (monotonic time, {"hello": boot id, "kernel", "uptime"})
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()

    def _read(self):
        pending = b""
        while True:
            try:
                data = self._sock.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._take(line)
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, line):
        try:
            message = json.loads(line)
        except ValueError:
            # A line that was cut by a kexec; the hello that follows begins a line of its own
            # only if we drop the broken one's head.
            start = line.rfind(b'{"hello"')
            if start <= 0:
                return
            self._take(line[start:])
            return
        with self._changed:
            if "hello" in message and "id" in message and self.hellos:
                return      # asked for more than once
            if "hello" in message:
                self.hellos.append((time.monotonic(), message))
                self._waiting.clear()
            elif message.get("id") in self._waiting:
                self._waiting.discard(message["id"])
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def boot_id(self):
        with self._changed:
            return self.hellos[-1][1]["hello"] if self.hellos else None

    def wait_hello(self, not_boot_id, timeout):
        """Wait for an agent of another boot than not_boot_id; returns its hello."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if self.hellos and self.hellos[-1][1]["hello"] != not_boot_id:
                    return self.hellos[-1][1]
                left = deadline - time.monotonic()
                if self.closed:
                    raise AgentLost("QEMU ended while waiting for the guest's agent")
                if left <= 0:
                    raise AgentTimeout(f"the guest's agent did not report within {timeout:.0f} s")
                self._changed.wait(min(left, 1))
                self._check_alive()

    def ask_hello(self, timeout):
        """From a guest that was saved while its agent ran. It may not hear us at once."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.hellos and not self.closed and time.monotonic() < deadline:
                self._sock.sendall(b'\n{"id": 0, "op": "hello"}\n')
                self._changed.wait(1)
                self._check_alive()

    def request(self, op, wait, **fields):
        req = {"id": next(self._ids), "op": op, **fields}
        data = json.dumps(req).encode() + b"\n"
        with self._changed:
            if not self.hellos:
                raise AgentError("the guest's agent has not reported yet")
            self._waiting.add(req["id"])
        with self._send_lock:
            self._sock.sendall(data)
        return self._wait_answer(req["id"], op, wait)

    def _wait_answer(self, ident, op, timeout):
        deadline = time.monotonic() + timeout
        with self._changed:
            while ident not in self._answers:
                if self.closed or ident not in self._waiting:
                    raise AgentLost(f"the guest went away during '{op}'")
                left = deadline - time.monotonic()
                if left <= 0:
                    self._waiting.discard(ident)
                    raise AgentTimeout(f"no answer to '{op}' within {timeout:.0f} s")
                self._changed.wait(min(left, 1))
                self._check_alive()
            answer = self._answers.pop(ident)
        if "error" in answer:
            raise AgentError(f"{op}: {answer['error']}")
        return answer

    def put(self, data, path, mode=0o644, timeout=60):
        for offset in range(0, max(len(data), 1), CHUNK):
            chunk = base64.b64encode(data[offset:offset + CHUNK]).decode()
            self.request("put", timeout, path=path, offset=offset, mode=mode, data=chunk)

    def get(self, path, timeout=60):
        parts, offset = [], 0
        while True:
            answer = self.request("get", timeout, path=path, offset=offset, length=CHUNK)
            chunk = base64.b64decode(answer["data"])
            if not chunk:
                return b"".join(parts)
            parts.append(chunk)
            offset += len(chunk)
