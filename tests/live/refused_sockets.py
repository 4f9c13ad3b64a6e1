"""Sockets that are refused, each by a program that makes it and the words of the refusal."""

import errno
import subprocess
import sys

LOOPBACK_PAIR = """
l = socket.create_server(("127.0.0.1", 0), family=socket.AF_INET)
c = socket.create_connection(l.getsockname()); s, _ = l.accept()
"""
# Tells netfilter by a message of that type, for that number, with the attribute (length, type, contents).
NETFILTER = """
s = socket.socket(16, socket.SOCK_RAW, 12); s.bind((0, 0))
message = struct.pack("=HHIIBBH", %s, 5, 1, 0, 0, 0, socket.htons(4711)) + struct.pack(%s)
s.send(struct.pack("=I", 4 + len(message)) + message)
failed = -struct.unpack_from("=i", s.recv(200), 16)[0]
if failed: raise OSError(failed, "netfilter")
"""
# What makes it; what the refusal must say.
REFUSED = {
    "vsock": ("s = socket.socket(40, socket.SOCK_STREAM)", "a vsock socket"),
    "kernel crypto": ("s = socket.socket(38, socket.SOCK_SEQPACKET)", "(AF_ALG)"),
    "MD5 keys of a listener": (
        """
s = socket.create_server(("127.0.0.1", 0))
key = struct.pack("=HH4s120xBBHi80s", 2, 0, bytes([127, 0, 0, 9]), 0, 0, 3, 0, b"key")
s.setsockopt(6, 14, key)
""", "TCP socket with MD5 signatures (TCP_MD5SIG)"),
    # struct tcp_ao_add of <linux/tcp.h>, to TCP_AO_ADD_KEY.
    "authentication option keys": (
        """
s = socket.create_server(("127.0.0.1", 0))
key = struct.pack("=HH4s120x64siIHBBBBBB80s", 2, 0, bytes([127, 0, 0, 9]), b"hmac(sha1)", 0, 0, 0,
                  32, 100, 100, 0, 0, 3, b"key")
s.setsockopt(6, 38, key)
""", "TCP socket with authentication option (TCP-AO)"),
    "urgent data": (LOOPBACK_PAIR + "c.send(b'!', socket.MSG_OOB); select.select([], [], [s], 5)",
                    "TCP connection with unread urgent data"),
    "MPTCP connection": (
        """
l = socket.socket(2, 1, 262); l.bind(("127.0.0.1", 0)); l.listen()
c = socket.socket(2, 1, 262); c.connect(l.getsockname()); s, _ = l.accept()
""", "internet socket of MPTCP"),
    "packet ring": (
        """
s = socket.socket(17, socket.SOCK_RAW, 0)
s.setsockopt(263, 5, struct.pack("IIII", 4096, 1, 2048, 2))
""", "packet socket with a memory ring (PACKET_RX_RING)"),
    "packet fanout": (
        """
s = socket.socket(17, socket.SOCK_RAW, socket.htons(3)); s.bind(("lo", 3))
s.setsockopt(263, 18, 4711)
""", "packet socket in a fanout group"),
    "unread netlink messages": (
        """
s = socket.socket(16, socket.SOCK_RAW, 0); s.bind((0, 0))
s.send(struct.pack("IHHIIBxxx", 20, 18, 0x301, 1, 0, 0)); select.select([s], [], [], 5)
""", "netlink socket with unread messages"),
    "packet queue": (NETFILTER % ("3 << 8 | 2", '"=HHBBH", 8, 1, 1, 0, socket.htons(2)'),
                     "netlink socket that packets are queued to (NFQUEUE 4711)"),
    "packet log": (NETFILTER % ("4 << 8 | 1", '"=HHBxxx", 5, 1, 1'),
                   "netlink socket that packets are logged to (NFLOG group 4711)"),
    "process events": (
        """
s = socket.socket(16, socket.SOCK_DGRAM, 11); s.bind((0, 1))
s.send(struct.pack("=IHHIIIIIIHHI", 40, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, 1))
""", "netlink socket that gets process events (proc connector)"),
    "corked UDP": (
        """
s = socket.socket(2, 2); s.connect(("127.0.0.1", 9)); s.setsockopt(17, 1, 1); s.send(b"half")
""", "UDP socket with a datagram that is not complete"),
    "half a UDP datagram": (
        """
open("/sys/kernel/btf/vmlinux")
s = socket.socket(10, 2); s.connect(("::1", 9)); s.send(b"half", socket.MSG_MORE)
""", "UDP socket with a datagram that is not complete"),
    "half a raw datagram": (
        """
open("/sys/kernel/btf/vmlinux")
s = socket.socket(2, 3, 253); s.connect(("127.0.0.1", 0)); s.send(b"half", socket.MSG_MORE)
""", "raw socket with a datagram that is not complete"),
    "UDP encapsulation": (
        "s = socket.socket(2, 2); s.bind(('127.0.0.1', 0)); s.setsockopt(17, 100, 2)",
        "UDP socket with encapsulation 2"),
    "kernel TLS": (LOOPBACK_PAIR + "c.setsockopt(6, 31, b'tls')",
                   'TCP connection with upper layer protocol "tls"'),
    "SCTP": ("s = socket.socket(2, 1, 132)", "internet socket of SCTP"),
    "unread data of a connection that nobody has accepted": (
        """
l = socket.socket(1); l.bind("\\0crk-%d" % os.getpid()); l.listen()
c = socket.socket(1); c.connect(l.getsockname()); c.send(b"hello")
""", "unix socket that has sent data but is not yet accepted"),
    "unix connections that nobody has accepted": (
        """
l = socket.socket(1); l.bind("\\0crk-%d" % os.getpid()); l.listen()
pid = os.fork()
if not pid: c = socket.socket(1); c.connect(l.getsockname()); c.close(); os._exit(0)
os.waitpid(pid, 0)
""", "1 connection(s) of a listening unix socket wait to be accepted"),
    "TCP connections that nobody has accepted": (
        """
l = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(l.getsockname())
""", "1 connection(s) of a listening socket wait to be accepted"),
    "an epoll that is only queued": (
        """
s, c = socket.socketpair(); e = select.epoll(); socket.send_fds(c, [b"x"], [e.fileno()]); e.close()
""", "an epoll in a socket's queue"),
    "a lock of a file that is only queued": (
        """
s, c = socket.socketpair(); f = open("/etc/hostname"); fcntl.flock(f, fcntl.LOCK_SH)
socket.send_fds(c, [b"x"], [f.fileno()]); f.close()
""", "/etc/hostname holds a file lock, and waits in a socket's queue to be received"),
    "credentials in a queue, without the option that shows them": (
        """
s, c = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(1, 76, 1); c.send(b"whose?")
""", "queued"),
}


# How a kernel says that it has been built without: the error, the option.
LACKING = {
    "vsock": (errno.EAFNOSUPPORT, "CONFIG_VSOCKETS"),
    "kernel crypto": (errno.EAFNOSUPPORT, "CONFIG_CRYPTO_USER_API"),
    "MD5 keys of a listener": (errno.ENOPROTOOPT, "CONFIG_TCP_MD5SIG"),
    "authentication option keys": (errno.ENOPROTOOPT, "CONFIG_TCP_AO"),
    "MPTCP connection": (errno.EPROTONOSUPPORT, "CONFIG_MPTCP"),
    "half a UDP datagram": (errno.ENOENT, "CONFIG_DEBUG_INFO_BTF"),
    "half a raw datagram": (errno.ENOENT, "CONFIG_DEBUG_INFO_BTF"),
    "packet ring": (errno.EAFNOSUPPORT, "CONFIG_PACKET"),
    "packet fanout": (errno.EAFNOSUPPORT, "CONFIG_PACKET"),
    "packet queue": (errno.EINVAL, "CONFIG_NETFILTER_NETLINK_QUEUE"),
    "packet log": (errno.EINVAL, "CONFIG_NETFILTER_NETLINK_LOG"),
    "process events": (errno.EPROTONOSUPPORT, "CONFIG_CONNECTOR"),
    "kernel TLS": (errno.ENOENT, "CONFIG_TLS"),
    "SCTP": (errno.EPROTONOSUPPORT, "CONFIG_IP_SCTP"),
}


def start(name):
    """The process, and None or what its kernel has been built without."""
    code = REFUSED[name][0]
    text = ("import fcntl, os, select, socket, struct, sys, time\ntry:\n" +
            "".join(f"    {line}\n" for line in code.strip().splitlines()) +
            "except OSError as e: print(e.errno, e, flush=True)\nelse: print('ready', flush=True)\n"
            "time.sleep(3600)")
    p = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, start_new_session=True)
    line = p.stdout.readline().decode().strip()
    p.stdout.close()
    number, option = LACKING.get(name, (None, None))
    if line.split()[0] == str(number):
        return p, f"the kernel is built without {option}: {line}"
    assert line == "ready", (name, line)
    return p, None
