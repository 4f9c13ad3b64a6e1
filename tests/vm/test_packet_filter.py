"""A machine whose packet filter lets in little: its rules are there again before the first packet, in both
carriers, long before the new boot's nftables.service loads them; so connections from inside go on, too, whose
answers only come in because tracking knows them. In the end there is what that service has loaded, once, though its
rules do not begin with a flush.
"""

import sys

import pytest

import upgrade
import upgrade_counter
from upgrade import Upgrade, wait_for
from vm import HOST_V4, VM

INITRD = "/boot/initrd-crkexec.img"
PORT = 7700
SERVER = f"""
import socket, threading, time
def serve(c):
    n = 0
    while True:
        c.sendall(b"%d\\n" % n)
        n += 1
        time.sleep(0.05)
s = socket.create_server(("{HOST_V4}", {PORT}))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
# Never sends anything itself.
READER = "/usr/local/sbin/crk-test-reader"
READER_SOURCE = f"""#!/usr/bin/python3
import socket
for line in socket.create_connection(("{HOST_V4}", {PORT})).makefile():
    print("count", line.strip(), "0 0", flush=True)
""".encode()
RULES = b"""table inet crk-filter {
    set clients {
        type ipv4_addr
        flags interval
        elements = { 10.77.0.0/24 }
    }
    chain in {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        ip saddr @clients tcp dport 6379 accept
        ip6 saddr fd77::/64 tcp dport 6379 accept
    }
}
"""
# Nobody's: some service would have removed it, had it been stopped.
STALE = b"""table ip crk-stale {
    chain forward {
        type filter hook forward priority filter; policy accept;
    }
}
"""
# What the new boot's service finds: the carried tables, and nothing else.
SEEN = "/run/crk-test-tables"
DROPIN = f"""[Service]
ExecStartPre=sh -c 'nft list tables >{SEEN}'
""".encode()
SERVICES = ["redis-server", "crk-test-reader"]


@pytest.fixture(scope="module", params=["own", "dracut"])
def up(request, image, payload):
    with VM(f"test_packet_filter/{request.param}", image=image, destdir=payload,
            memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        options = []
        if request.param == "dracut":
            vm.run(f"dracut --quiet --force --add crkexec --kver {vm.image.versions['7.2']} {INITRD}",
                   timeout=600)
            options = ["--initrd", INITRD]
        server = vm.net.popen([sys.executable, "-c", SERVER], stdout=-1)
        try:
            assert server.stdout.readline() == b"ready\n"
            vm.put(RULES, "/etc/nftables.conf")
            vm.put(DROPIN, "/etc/systemd/system/nftables.service.d/crk-test.conf")
            vm.run("systemctl daemon-reload && systemctl enable --now nftables")
            vm.put(READER_SOURCE, READER, 0o755)
            upgrade_counter.install(vm, {"crk-test-reader": (READER, "")})
            up = Upgrade(vm, SERVICES, options)
            up.rules = vm.run("nft list ruleset").out
            vm.run("nft -f -", stdin=STALE)
            yield up.run()
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def test_nothing_else_has_changed(up):
    # These rules are the machine's own; no other may be left.
    assert up.after["nft"] == up.rules.strip()
    assert up.troubles() == [f"left over, nft: {up.rules.strip()}"]


def test_rules_are_those_of_the_new_boot_and_there_once(up):
    assert up.rules.count("\n") > 10
    assert up.vm.run("nft list ruleset").out == up.rules
    assert up.vm.run("systemctl is-active nftables").out == "active\n"


def test_rules_came_along_under_names_that_do_not_meet_those_of_the_boot(up):
    assert up.vm.run(f"cat {SEEN}").out.splitlines() == ["table inet crkexec_crk-filter", "table ip crkexec_crk-stale"]


def test_rules_were_there_before_the_first_packet(up):
    phases = {p["name"]: p for p in up.report["phases"]}
    assert phases["restore"]["begin_usec"] <= phases["packet filter"]["begin_usec"]
    assert phases["packet filter"]["end_usec"] <= phases["restore"]["end_usec"]
    assert up.report["warnings"] == [w for w in up.report["warnings"] if "packet filter" not in w]


def test_who_only_reads_goes_on_reading(up):
    def last():
        return upgrade_counter.Lines(up.vm, "crk-test-reader").numbers[-1]

    now = last()
    wait_for(lambda: last() > now + 100, 30, "it reads on")
    assert upgrade_counter.Lines(up.vm, "crk-test-reader").missing_or_doubled() is None
