#!/usr/bin/python3
"""decode.py DIR: reads every image below DIR as `crit decode --pretty` does, with Debian's pycriu.

One process for all, since an emulated guest starts Python for a second each."""

import sys
from pathlib import Path

import pycriu

# Pages, tar archives and the output of tools: no messages, crit refuses CRIU's own as well.
RAW = ("pages-", "tmpfs-dev-", "ifaddr-", "route-", "route6-", "rule-", "nftables-", "iptables-",
       "ip6tables-")
bad = 0
for path in sorted(Path(sys.argv[1]).rglob("*.img")):
    if path.name.startswith(RAW):
        continue
    try:
        with open(path, "rb") as image:
            pycriu.images.load(image, True)
    except Exception as e:  # whatever its reader throws is what its user sees
        print(f"{path.name}: {type(e).__name__}: {e}")
        bad += 1
sys.exit(bool(bad))
