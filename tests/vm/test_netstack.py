"""A machine whose addresses are on a bridge over a bond, with a VLAN beside it: all are there again before the
services are, and the new boot's network service takes them over.

The VLAN has no other end: the kernel that runs the tests may know none.
"""

import re

import pytest

import upgrade
from clients import Load
from upgrade import Upgrade, wait_for
from vm import VM

FILES = {
    "05-bond0.netdev": "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"
                       "PrimaryReselectPolicy=better\nGratuitousARP=3\n",
    "05-vlan78.netdev": "[NetDev]\nName=vlan78\nKind=vlan\n[VLAN]\nId=78\n",
    "05-br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n[Bridge]\nSTP=no\nForwardDelaySec=4\nAgeingTimeSec=123\n",
    "05-device.network": "[Match]\nDriver=virtio_net\n[Network]\nBond=bond0\nPrimarySlave=yes\n",
    "05-bond0.network": "[Match]\nName=bond0\n[Network]\nVLAN=vlan78\nBridge=br0\n",
    "05-vlan78.network": "[Match]\nName=vlan78\n[Network]\nAddress=10.78.0.2/24\nIPv6AcceptRA=no\n",
    "05-br0.network": "[Match]\nName=br0\n[Network]\nAddress=10.77.0.2/24\nAddress=fd77::2/64\n"
                      "Gateway=10.77.0.1\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
}
LINKS = ("bond0", "vlan78", "br0")


def details(vm):
    """Settings, as the kernel shows them one by one."""
    words = [f"/sys/class/net/bond0/bonding/{name}"
             for name in ("mode", "miimon", "primary", "primary_reselect", "num_grat_arp", "slaves")]
    words += [f"/sys/class/net/br0/bridge/{name}" for name in ("forward_delay", "ageing_time", "stp_state")]
    said = vm.run(f"cat {' '.join(words)}; ls /sys/class/net/br0/brif; ip -d -o link show vlan78").out.split("\n")
    return said[:10] + re.findall(r"vlan protocol \S+ id \d+ <[A-Z_,]*>", said[10])


@pytest.fixture(scope="module")
def up(image, payload):
    with VM("test_netstack/shared", image=image, destdir=payload, memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        for name, text in FILES.items():
            vm.put(text.encode(), f"/etc/systemd/network/{name}")
        vm.run("systemctl restart systemd-networkd")
        wait_for(lambda: all(a in vm.run("ip -o address").out for a in (
            "br0    inet 10.77.0.2", "vlan78    inet 10.78.0.2")), 60, "addresses are on the new interfaces")
        up = Upgrade(vm, ["redis-server"], load=Load(vm, ["redis-server"]))
        up.details = details(vm)
        yield up.run()


def test_nothing_has_changed(up):
    assert up.troubles() == []


def test_settings_are_those_of_before(up):
    device = up.details[2]
    assert up.details == ["active-backup 1", "100", device, "better 1", "3", device, "400", "12300", "0", "bond0",
                          "vlan protocol 802.1Q id 78 <REORDER_HDR>"]
    assert details(up.vm) == up.details


def test_the_early_program_has_made_them(up):
    log = up.vm.run("cat /var/log/crkexec/*-early.log").out
    assert "cannot make" not in log and "cannot put" not in log and "no interface" not in log
    assert not [w for w in up.report["warnings"] if "network service" in w]
    said = up.vm.run("journalctl -b -u systemd-networkd -o cat").out
    for link in LINKS:
        # It is up before networkd has begun to configure it.
        assert f"{link}: Link UP" in said.partition(f"{link}: Configuring")[0]
