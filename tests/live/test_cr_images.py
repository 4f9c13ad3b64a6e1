"""Images that are damaged, missing or left of an earlier dump: nothing wrong is restored, and nothing crashes."""
import json
import os
import signal
import subprocess
import sys

from live import CR, Maker, check, cr, reap_orphans, wait_for, wait_in_call

NANOSLEEP = 230     # clock_nanosleep(2)


def test_flipped_bits_in_images_never_crash_and_leave_nothing_behind(tmp_path):
    m = Maker("eventfds", tmp_path)
    m.start()
    m.dump()
    m.reap()
    seed = 12345
    for image in sorted(m.images.glob("*.img")):
        whole = image.read_bytes()
        if not whole:
            continue
        for _ in range(3):
            seed = (seed * 1103515245 + 12345) & 0x7fffffff
            at = seed % len(whole)
            broken = bytearray(whole)
            broken[at] ^= 1 << (seed >> 16 & 7)
            image.write_bytes(broken)
            (tmp_path / "pid").unlink(missing_ok=True)
            done = cr("restore", m.images, "-d", "-s", "--pidfile", tmp_path / "pid", timeout=30)
            assert done.returncode in (0, 1), f"{image.name} byte {at}: exit {done.returncode}"
            if done.returncode == 0:
                # The flipped bit may be one of the pid's.
                os.killpg(int((tmp_path / "pid").read_text()), signal.SIGKILL)
            wait_for(lambda: not m.alive(), 5, f"{image.name} byte {at}: nothing is left")
        image.write_bytes(whole)
    m.restore()
    m.verify()
    m.end()


def closed_sleeper(*args):
    """A process without descriptors."""
    p = subprocess.Popen([sys.executable, "-c", "import os, time\n"
                          "os.closerange(0, 3)\ntime.sleep(1000)"], start_new_session=True, **dict(args))
    wait_for(lambda: not os.listdir(f"/proc/{p.pid}/fd"), 5, "no descriptors")
    wait_in_call(p.pid, NANOSLEEP)
    return p


def test_nothing_of_an_earlier_dump_in_the_directory_is_restored(tmp_path):
    m = Maker("pipes", tmp_path)
    m.start()
    p = closed_sleeper()
    try:
        m.dump("-R")
        earlier = set(os.listdir(m.images))
        assert {"pipes-data.img", "fdinfo-2.img"} <= earlier
        (m.images / "disk.img").write_text("no image of ours")
        check(cr("dump", m.images, "-t", str(p.pid)), "dump")
        p.wait()
        assert not {"pipes-data.img", "fdinfo-2.img"} & set(os.listdir(m.images))
        assert (m.images / "disk.img").exists()
        check(cr("restore", m.images, "-d"), "restore")
        assert os.listdir(f"/proc/{p.pid}/fd") == []
    finally:
        m.end()
        os.kill(p.pid, signal.SIGKILL)
        p.wait()


def test_an_image_that_is_missing_is_noticed_whichever_it_is(tmp_path):
    m = Maker("pipes", tmp_path)
    m.start()
    try:
        m.dump()
        m.reap()
        names = [f.name for f in m.images.iterdir() if f.suffix == ".img"]
        assert {"pipes-data.img", "fdinfo-2.img", "timens-0.img"} <= set(names)
        for name in names:
            (m.images / name).rename(tmp_path / name)
            done = cr("restore", m.images, "-d")
            assert done.returncode == 1 and name.removesuffix(".img") in done.stderr, name
            assert not m.alive()
            (tmp_path / name).rename(m.images / name)
        m.restore()
        m.verify()
    finally:
        m.end()


def test_without_a_list_of_images_a_missing_table_of_descriptors_is_told(tmp_path):
    """As CRIU leaves it: nothing says whether there were any."""
    p = closed_sleeper()
    try:
        check(cr("dump", tmp_path, "-t", str(p.pid)), "dump")
        p.wait()
        shown = subprocess.run([CR, "show", "--json", tmp_path / "inventory.img"], capture_output=True, check=True)
        inventory = json.loads(shown.stdout)["entries"][0]
        assert "core-%d.img" % p.pid in inventory["images"] and "fdinfo-2.img" not in inventory["images"]
        done = cr("restore", tmp_path, "-d")
        check(done, "restore")
        assert "without descriptors" not in done.log
        os.kill(p.pid, signal.SIGKILL)
        wait_for(lambda: reap_orphans() or not os.path.exists(f"/proc/{p.pid}"), 5, "its end")
        without_images(tmp_path / "inventory.img")
        done = cr("restore", tmp_path, "-d")
        check(done, "restore")
        assert "there is no fdinfo-2.img: it comes back without descriptors" in done.log
    finally:
        os.kill(p.pid, signal.SIGKILL)


def without_images(path):
    """Takes the list out: field 1001, of names."""
    data = path.read_bytes()
    key = bytes([0xca, 0x3e])  # 1001 << 3 | 2
    head, message = data[:4], data[8:]
    while key in message:
        at = message.index(key)
        message = message[:at] + message[at + 3 + message[at + 2]:]
    path.write_bytes(head + len(message).to_bytes(4, "little") + message)
