"""A machine whose addresses are on a bridge over a bond, with a VLAN beside it: all are there again before the
services are, and the new boot's network service takes them over. So are routes, policy rules and an address of lo that
no network service knows of.

The VLAN has no other end: the kernel that runs the tests may know none.
"""

import re

import pytest

import upgrade
from clients import Load
from upgrade import Upgrade, wait_for
from vm import VM

BONDS = {
    "active-backup": "PrimaryReselectPolicy=better\nGratuitousARP=3\n",
    # Without a partner one port goes on alone.
    "802.3ad": "LACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\nAdSelect=bandwidth\n"
               "AdActorSystemPriority=777\nAdUserPortKey=7\nMinLinks=1\n",
}
FILES = {
    "05-bond0.netdev": "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode={mode}\nMIIMonitorSec=100ms\n{bond}",
    "05-vlan78.netdev": "[NetDev]\nName=vlan78\nKind=vlan\n[VLAN]\nId=78\n",
    "05-br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n[Bridge]\nSTP=no\nForwardDelaySec=4\nAgeingTimeSec=123\n"
                     "MulticastSnooping=no\nMulticastQuerier=yes\n",
    "05-device.network": "[Match]\nDriver=virtio_net\n[Network]\nBond=bond0\n{device}",
    "05-bond0.network": "[Match]\nName=bond0\n[Network]\nVLAN=vlan78\nBridge=br0\n",
    "05-vlan78.network": "[Match]\nName=vlan78\n[Network]\nAddress=10.78.0.2/24\nIPv6AcceptRA=no\n",
    "05-br0.network": "[Match]\nName=br0\n[Network]\nAddress=10.77.0.2/24\nAddress=fd77::2/64\n"
                      "Gateway=10.77.0.1\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
}
# Without it networkd takes away what it has not made itself.
LENIENT = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"
BY_HAND = """set -e
ip address add 10.66.0.1/32 dev lo
ip route add 10.88.0.0/16 via 172.31.1.1 dev br0 onlink mtu 1400 advmss 1300
ip route add 10.89.0.0/16 via inet6 fe80::1 dev br0
ip route add default via 10.77.0.1 dev br0 table 100
ip rule add from 10.66.0.1 lookup 100 priority 555
ip -6 rule add from 2001:db8::/32 prohibit priority 556
"""
SHOW_BY_HAND = ("ip -o address show dev lo scope global; ip route show 10.88.0.0/16; ip route show 10.89.0.0/16; "
                "ip route show table 100; ip rule; ip -6 rule")
LINKS = ("bond0", "vlan78", "br0")
OF_BOND = ("mode", "miimon", "primary", "primary_reselect", "num_grat_arp", "lacp_rate", "xmit_hash_policy", "ad_select",
           "ad_actor_sys_prio", "ad_user_port_key", "min_links", "slaves")
OF_BRIDGE = ("forward_delay", "ageing_time", "stp_state", "multicast_snooping", "multicast_querier")
# {}: the name of the device.
EXPECTED = {
    "active-backup": {"mode": "active-backup 1", "miimon": "100", "primary": "{}", "primary_reselect": "better 1",
                      "num_grat_arp": "3", "slaves": "{}"},
    "802.3ad": {"mode": "802.3ad 4", "miimon": "100", "lacp_rate": "fast 1", "xmit_hash_policy": "layer3+4 1",
                "ad_select": "bandwidth 1", "ad_actor_sys_prio": "777", "ad_user_port_key": "7", "min_links": "1",
                "slaves": "{}"},
}
BRIDGE = {"forward_delay": "400", "ageing_time": "12300", "stp_state": "0", "multicast_snooping": "0",
          "multicast_querier": "1"}


def settings(vm, directory, names):
    return {name: vm.run(f"cat /sys/class/net/{directory}/{name}").out.strip() for name in names}


def details(vm):
    """Settings, as the kernel shows them one by one."""
    said = vm.run("ls /sys/class/net/br0/brif; ip -d -o link show vlan78").out.split("\n")
    return {"bond": settings(vm, "bond0/bonding", OF_BOND), "bridge": settings(vm, "br0/bridge", OF_BRIDGE),
            "ports": said[0], "vlan": re.findall(r"vlan protocol \S+ id \d+ <[A-Z_,]*>", said[1])}


def reaches(vm):
    try:
        vm.connect(6379).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=BONDS)
def up(image, payload, request):
    words = {"mode": request.param, "bond": BONDS[request.param],
             "device": "PrimarySlave=yes\n" if request.param == "active-backup" else ""}
    with VM(f"test_netstack/{request.param}", image=image, destdir=payload, memory=upgrade.MEMORY) as vm:
        vm.wait_idle()
        for name, text in FILES.items():
            vm.put(text.format(**words).encode(), f"/etc/systemd/network/{name}")
        vm.put(LENIENT.encode(), "/etc/systemd/networkd.conf.d/50-test.conf")
        vm.run("systemctl restart systemd-networkd")
        wait_for(lambda: all(a in vm.run("ip -o address").out for a in (
            "br0    inet 10.77.0.2", "vlan78    inet 10.78.0.2")), 60, "addresses are on the new interfaces")
        wait_for(lambda: reaches(vm), 60, "the guest is reached over them")
        vm.run(BY_HAND)
        by_hand = vm.run(SHOW_BY_HAND).out
        up = Upgrade(vm, ["redis-server"], load=Load(vm, ["redis-server"]))
        up.mode, up.details, up.by_hand = request.param, details(vm), by_hand
        yield up.run()


def test_nothing_has_changed(up):
    assert up.troubles() == []


def test_settings_are_those_of_before(up):
    bond, expected = up.details["bond"], EXPECTED[up.mode]
    assert {k: bond[k] for k in expected} == {k: v.format(bond["slaves"]) for k, v in expected.items()}
    assert up.details["bridge"] == BRIDGE
    assert up.details["ports"] == "bond0"
    assert up.details["vlan"] == ["vlan protocol 802.1Q id 78 <REORDER_HDR>"]
    assert details(up.vm) == up.details


def test_routes_rules_and_addresses_that_nobody_sets_up_are_there(up):
    assert "10.88.0.0/16 via 172.31.1.1 dev br0 onlink mtu 1400 advmss 1300" in up.by_hand
    assert "10.89.0.0/16 via inet6 fe80::1 dev br0" in up.by_hand
    assert up.vm.run(SHOW_BY_HAND).out == up.by_hand


def test_the_early_program_has_made_them(up):
    log = up.vm.run("cat /var/log/crkexec/*-early.log").out
    assert "cannot make" not in log and "cannot put" not in log and "no interface" not in log
    assert "goes without" not in log and "going on without" not in log and "cannot read" not in log
    assert not [w for w in up.report["warnings"] if "network service" in w]
    said = up.vm.run("journalctl -b -u systemd-networkd -o cat").out
    for link in LINKS:
        # It is up before networkd has begun to configure it.
        assert f"{link}: Link UP" in said.partition(f"{link}: Configuring")[0]
