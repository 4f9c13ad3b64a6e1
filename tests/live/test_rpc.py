"""RPC: swrk and service over real sockets, driven as container runtimes and libraries do."""
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from live import CR, Maker, cr, kill, proc_state, reap_orphans, wait_for
from rpc import (CHECK, CPUINFO_CHECK, DUMP, EMPTY, FEATURE_CHECK, NOTIFY, PAGE_SERVER,
                 PAGE_SERVER_CHLD, PRE_DUMP, RESTORE, SINGLE_PRE_DUMP, VERSION, WAIT_PID, Client,
                 encode, places, swrk)


@pytest.fixture
def maker(tmp_path):
    m = Maker("eventfds", tmp_path)
    m.start()
    yield m
    m.end()


def log_of(maker):
    return (maker.images / "rpc.log").read_text(errors="replace")


def ok(answer, maker):
    assert answer and answer["success"], f"{answer}\n{log_of(maker)[-3000:]}"
    return answer


def dump(maker, **opts):
    client = swrk()
    ok(client.ask(DUMP, places(maker.images, pid=maker.pid, **opts)), maker)
    assert client.wait() == 0
    return client


def test_a_process_is_dumped_and_restored_as_its_clients_child(maker):
    dump(maker)
    maker.reap()
    client = swrk()
    answer = ok(client.ask(RESTORE, places(maker.images, rst_sibling=True)), maker)
    assert answer["restore"]["pid"] == maker.pid
    assert client.wait() == 0
    # swrk is our child, so its sibling is, too.
    status = open(f"/proc/{maker.pid}/status").read()
    assert int(re.search(r"PPid:\t(\d+)", status).group(1)) == os.getpid()
    maker.verify()


def test_clients_are_asked_at_each_event_in_order(maker):
    client = swrk()
    opts = places(maker.images, pid=maker.pid, notify_scripts=True)
    ok(client.ask(DUMP, opts), maker)
    assert client.wait() == 0
    assert client.events == [("pre-dump", None), ("query-ext-files", None), ("post-dump", None)]
    maker.reap()
    client = swrk()
    ok(client.ask(RESTORE, places(maker.images, notify_scripts=True, rst_sibling=True)), maker)
    assert client.wait() == 0
    # Without namespaces of its own the tree has nothing to set up.
    assert client.events == [("pre-restore", None), ("post-restore", maker.pid), ("pre-resume", None),
                             ("post-resume", None)]
    maker.verify()


def test_a_trees_network_can_be_set_up_by_its_pid_before_its_sockets_are_made(tmp_path):
    m = Maker("ns_net", tmp_path)
    m.start()
    try:
        client = swrk()
        ok(client.ask(DUMP, places(m.images, pid=m.pid, tcp_established=True, notify_scripts=True)), m)
        client.wait()
        assert [e for e, _ in client.events] == ["pre-dump", "network-lock", "query-ext-files", "post-dump"]
        m.reap()
        seen = {}

        def look(event, pid):
            if event == "setup-namespaces":
                seen["net"] = os.readlink(f"/proc/{pid}/ns/net")
                seen["links"] = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-o", "link"],
                                               capture_output=True, text=True).stdout
        client = swrk()
        client.hook = look
        ok(client.ask(RESTORE, places(m.images, tcp_established=True, notify_scripts=True,
                                      rst_sibling=True)), m)
        client.wait()
        assert client.events == [
            ("pre-restore", None), ("setup-namespaces", m.pid), ("post-setup-namespaces", None),
            ("post-restore", m.pid), ("network-unlock", None), ("pre-resume", None),
            ("post-resume", None)]
        assert seen["net"] == os.readlink(f"/proc/{m.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        assert "lo:" in seen["links"]
        m.verify()
    finally:
        m.end()


@pytest.mark.parametrize("event", ["pre-dump", "query-ext-files", "post-dump"])
def test_a_client_that_refuses_an_event_keeps_its_process(maker, event):
    client = swrk()
    client.refuse.add(event)
    answer = client.ask(DUMP, places(maker.images, pid=maker.pid, notify_scripts=True))
    assert answer["type"] == DUMP and not answer["success"]
    assert event in answer["cr_errmsg"] and answer["cr_errno"] == errno.ECANCELED
    assert client.wait() == 255
    maker.verify()


def test_a_refused_network_lock_is_taken_back(tmp_path):
    m = Maker("ns_net", tmp_path)
    m.start()
    rules = ["nsenter", "-n", "-t", str(m.pid), "nft", "list", "ruleset"]
    try:
        before = subprocess.run(rules, capture_output=True, text=True, check=True).stdout
        locked = []

        def look(event, _):
            if event == "network-lock":
                locked.append(subprocess.run(rules, capture_output=True, text=True).stdout)
        client = swrk()
        client.hook = look
        client.refuse.add("network-lock")
        answer = client.ask(DUMP, places(m.images, pid=m.pid, tcp_established=True, notify_scripts=True))
        assert not answer["success"] and "network-lock" in answer["cr_errmsg"]
        client.wait()
        assert len(locked) == 1 and locked[0] != before
        assert subprocess.run(rules, capture_output=True, text=True).stdout == before
        m.verify()
    finally:
        m.end()


@pytest.mark.parametrize("how", ["gone", "nonsense"])
def test_a_client_that_does_not_answer_an_event_keeps_its_process(maker, how):
    client = swrk()
    client.send(DUMP, places(maker.images, pid=maker.pid, notify_scripts=True))
    assert client.receive()["notify"]["script"] == "pre-dump"
    client.send(NOTIFY, notify_success=True)
    assert client.receive()["type"] == NOTIFY
    if how == "nonsense":
        client.sock.send(b"\xff\xff\xff")
        assert not client.receive()["success"]
    assert client.wait() == 255
    maker.verify()


def test_a_refused_post_restore_leaves_nothing(maker):
    dump(maker)
    maker.reap()
    client = swrk()
    client.refuse.add("post-restore")
    answer = client.ask(RESTORE, places(maker.images, notify_scripts=True, rst_sibling=True))
    assert not answer["success"] and answer["restore"]["pid"] == -1
    assert "post-restore" in answer["cr_errmsg"]
    assert client.wait() == 255
    reap_orphans()
    assert proc_state(maker.pid) is None


def test_an_end_that_is_wanted_while_the_client_thinks_rolls_back(maker):
    client = swrk()
    client.send(DUMP, places(maker.images, pid=maker.pid, notify_scripts=True))
    for event in ["pre-dump", "query-ext-files"]:
        assert client.receive()["notify"]["script"] == event
        if event == "pre-dump":
            client.send(NOTIFY, notify_success=True)
    client.process.send_signal(signal.SIGTERM)
    answer = client.receive()
    assert answer["type"] == DUMP and not answer["success"]
    assert client.wait() == 255
    maker.verify()


@pytest.fixture
def tracked():
    done = subprocess.run([CR, "check", "--feature", "mem_dirty_track"], capture_output=True, text=True)
    if done.stdout == "mem_dirty_track is not supported\n":
        pytest.skip(f"{done.stdout.strip()} (CONFIG_MEM_SOFT_DIRTY, or Linux 6.7 with CONFIG_USERFAULTFD)")
    assert not done.returncode, done


@pytest.mark.may_lack
@pytest.mark.usefixtures("tracked")
def test_pre_dumps_and_the_dump_come_by_one_connection(maker):
    first, second = maker.dir / "1", maker.dir / "2"
    first.mkdir(), second.mkdir()
    client = swrk()
    assert client.ask(PRE_DUMP, places(first, pid=maker.pid, track_mem=True)) == \
        {"type": PRE_DUMP, "success": 1}
    assert client.ask(PRE_DUMP, places(second, pid=maker.pid, track_mem=True, parent_img="../1"))["success"]
    ok(client.ask(DUMP, places(maker.images, pid=maker.pid, parent_img="../2")), maker)
    # The keeper of the tracking must not keep the connection.
    assert client.receive() is None
    assert client.wait() == 0
    maker.reap()
    assert os.readlink(maker.images / "parent") == "../2"
    maker.restore()
    maker.verify()


@pytest.mark.may_lack
@pytest.mark.usefixtures("tracked")
def test_after_a_pre_dump_nothing_but_dumps_is_expected(maker):
    client = swrk()
    answer = client.ask(PRE_DUMP, places(maker.images, pid=maker.pid))
    assert answer["success"], answer
    answer = client.ask(VERSION)
    assert answer["type"] == EMPTY and not answer["success"] and answer["cr_errmsg"]
    assert client.wait() == 255
    maker.verify()


def test_version_features_and_check_by_one_connection():
    client = swrk()
    answer = client.ask(VERSION, keep_open=True)
    assert answer["success"] and answer["version"]["major_number"] == 4
    answer = client.ask(FEATURE_CHECK, features={"mem_track": True, "lazy_pages": True}, keep_open=True)
    track = subprocess.run([CR, "check", "--feature", "mem_dirty_track"], capture_output=True)
    assert answer["features"] == {"mem_track": track.returncode == 0, "lazy_pages": 0}
    answer = client.ask(CHECK)
    good = subprocess.run([CR, "check"], capture_output=True).returncode == 0
    assert answer["type"] == CHECK and answer["success"] == good
    assert client.wait() == (0 if good else 255)


@pytest.mark.parametrize("type, answer_type, number", [
    (CPUINFO_CHECK, CPUINFO_CHECK, errno.EBADRQC), (PAGE_SERVER, PAGE_SERVER, errno.ENOTSUP),
    (PAGE_SERVER_CHLD, PAGE_SERVER, errno.ENOTSUP), (WAIT_PID, WAIT_PID, errno.ECHILD),
    (NOTIFY, EMPTY, errno.EBADRQC), (EMPTY, EMPTY, errno.EBADRQC), (99, EMPTY, errno.EBADRQC),
    (FEATURE_CHECK, FEATURE_CHECK, errno.EBADRQC), (DUMP, DUMP, errno.EBADRQC),
    (RESTORE, RESTORE, errno.EBADRQC), (SINGLE_PRE_DUMP, SINGLE_PRE_DUMP, errno.EBADRQC),
])
def test_what_cannot_be_done_is_answered_with_a_reason(type, answer_type, number):
    client = swrk(stderr=subprocess.DEVNULL)
    answer = client.ask(type)
    assert answer["type"] == answer_type and not answer["success"]
    assert answer["cr_errno"] == number and answer["cr_errmsg"]
    assert client.receive() is None
    assert client.wait() == 255


@pytest.mark.parametrize("opts, words", [
    ({"lazy_pages": True}, "--lazy-pages is not supported"),
    ({"ps": {"address": "127.0.0.1", "port": 1}}, "--page-server is not supported"),
    ({"empty_ns": 0x20000}, "empty_ns"),
    ({"join_ns": [{"ns": "net", "ns_file": "/proc/1/ns/net"}]}, "--join-ns is not supported"),
    ({"manage_cgroups_mode": 9}, "manage_cgroups_mode: 9"),
    ({"network_lock": 7}, "network_lock: 7"),
    ({"inherit_fd": [{"key": "x", "fd": 900}]}, "900 is not a descriptor"),
    ({"inherit_fd": [{"key": "x", "fd": -5}]}, "not a valid value"),
    ({"log_file": "../out"}, "../out"),
    ({"log_file": ".."}, "not the name of a file"),
    ({"work_dir_fd": 901}, "work directory"),
    ({"images_dir_fd": 902}, "images directory"),
    ({"images_dir_fd": -7}, "images-dir: -7"),
    ({"images_dir_fd": -1}, "neither images_dir_fd nor images_dir"),
    ({"skip_mnt": ["/mnt"]}, "--skip-mnt is not supported"),
    ({"lsm_profile": "smack:x"}, "--lsm-profile"),
    ({"pid": -3}, "--tree"),
    ({"pid": 4194000}, "4194000"),
    ({}, "pid is not set"),
])
def test_options_that_cannot_be_had_are_refused_by_name(tmp_path, opts, words):
    client = swrk(stderr=subprocess.DEVNULL)
    answer = client.ask(DUMP, places(tmp_path, **opts))
    assert answer["type"] == DUMP and not answer["success"]
    assert words in answer["cr_errmsg"] and answer["cr_errno"] > 0
    assert client.wait() == 255


def test_a_pid_that_is_not_there_and_one_that_is_taken_have_their_errno(maker):
    client = swrk()
    assert client.ask(DUMP, places(maker.images, pid=4194000))["cr_errno"] == errno.ESRCH
    client.wait()
    dump(maker, leave_running=True)
    client = swrk()
    answer = client.ask(RESTORE, places(maker.images))
    assert answer["cr_errno"] == errno.EEXIST and str(maker.pid) in answer["cr_errmsg"]
    client.wait()
    maker.verify()


def test_a_packet_that_is_no_request_ends_the_connection():
    for packet in [b"\xff" * 40, b"\x08", b"", encode("criu_opts", {"root": "/"})]:
        client = swrk(stderr=subprocess.DEVNULL)
        client.sock.send(packet)
        assert client.receive() is None
        assert client.wait() == 255


def test_a_client_that_goes_without_a_request_is_told_from_one_that_has_its_answer():
    client = swrk(stderr=subprocess.PIPE)
    assert client.wait() == 255
    assert b"closed the connection without a request" in client.process.stderr.read()
    client = swrk(stderr=subprocess.PIPE)
    assert client.ask(VERSION, keep_open=True)["success"]
    assert client.wait() == 255
    assert client.process.stderr.read() == b""


@pytest.mark.may_lack
@pytest.mark.usefixtures("tracked")
def test_swrk_ends_between_requests_when_told_to(maker):
    client = swrk()
    answer = client.ask(PRE_DUMP, places(maker.images, pid=maker.pid))
    assert answer["success"], answer
    # The answer may come before the process that gave it has ended: then it is not killed.
    client.process.send_signal(signal.SIGTERM)
    assert client.process.wait(timeout=10) in (0, -signal.SIGTERM)


def test_what_a_client_names_when_asked_is_the_clients(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with open(path) as f:
        p = subprocess.Popen(["sleep", "1000"], stdin=f, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    mount = re.search(r"mnt_id:\t(\d+)", open(f"/proc/{p.pid}/fdinfo/0").read()).group(1)
    key = f"file[{int(mount):x}:{path.stat().st_ino:x}]"
    client = swrk()
    client.more["query-ext-files"] = {"external": ["nonsense", key]}
    answer = client.ask(DUMP, places(tmp_path, pid=p.pid, notify_scripts=True))
    p.wait()
    assert answer["success"], answer
    client.wait()
    assert cr("restore", tmp_path, "-d").returncode
    assert cr("restore", tmp_path, "-d", "--inherit-fd", f"fd[0]:{key}").returncode == 0
    assert os.readlink(f"/proc/{p.pid}/fd/0") == os.readlink("/proc/self/fd/0")
    os.kill(p.pid, signal.SIGKILL)


def test_files_that_others_rename_or_remove_during_the_dump(tmp_path):
    """As logrotate does it: their names were read when the tree had stopped."""
    log, gone, images = tmp_path / "log", tmp_path / "gone", tmp_path / "images"
    images.mkdir()
    with open(log, "w") as out, open(gone, "w+") as ghost:
        ghost.write("contents")
        ghost.flush()
        p = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=out, stderr=ghost,
                             start_new_session=True)
    client = swrk()

    def rotate(event, _):
        if event == "query-ext-files":
            log.rename(tmp_path / "log.1")
            log.write_text("another's")
            gone.unlink()
    client.hook = rotate
    try:
        answer = client.ask(DUMP, places(images, pid=p.pid, notify_scripts=True))
        assert answer["success"], (images / "rpc.log").read_text()
        p.wait()
        client.wait()
        done = cr("restore", images, "-d")
        assert done.returncode == 0, done.log
        assert os.readlink(f"/proc/{p.pid}/fd/1") == f"{tmp_path}/log.1"
        assert os.readlink(f"/proc/{p.pid}/fd/2") == f"{gone} (deleted)"
        assert Path(f"/proc/{p.pid}/fd/2").read_text() == "contents"
        assert log.read_text() == "another's"
    finally:
        p.kill()
        p.wait()
        kill(p.pid)


def test_a_configuration_file_overrides_and_may_be_missing(maker, tmp_path):
    dump(maker, leave_running=True, config_file="/does/not/exist")
    conf = tmp_path / "runc.conf"
    conf.write_text('# ours\nlog-file "other.log" # there\n\nno-leave-running\nghost-limit 2M\n')
    client = swrk()
    ok(client.ask(DUMP, places(maker.images, pid=maker.pid, leave_running=True, config_file=str(conf))),
       maker)
    client.wait()
    assert (maker.images / "other.log").exists()
    maker.reap()
    assert proc_state(maker.pid) is None


@pytest.mark.parametrize("text, words", [
    ("lazy-pages\n", "--lazy-pages is not supported"), ("nonsense\n", "nonsense"),
    ("ghost-limit 1M 2M\n", "one value"), ('root "/x\n', "quote"), ("config /x\n", "command line only"),
    ("work-dir /tmp\n", "are the request's"), ("tree 1\n", "command line only"),
])
def test_a_bad_configuration_file_is_named(maker, tmp_path, text, words):
    conf = tmp_path / "bad.conf"
    conf.write_text(text)
    client = swrk()
    answer = client.ask(DUMP, places(maker.images, pid=maker.pid, config_file=str(conf)))
    assert not answer["success"] and words in answer["cr_errmsg"] and str(conf) in answer["cr_errmsg"]
    client.wait()
    maker.verify()


def test_exec_cmd_runs_after_the_answer_and_prints_to_the_log(maker):
    dump(maker)
    maker.reap()
    client = swrk()
    ok(client.ask(RESTORE, places(maker.images, rst_sibling=True,
                                  exec_cmd=["sh", "-c", "echo became $0", "it"])), maker)
    assert client.wait() == 0
    assert "became it" in log_of(maker)
    maker.verify()


def test_an_inherited_descriptor_becomes_the_trees(tmp_path):
    r, w = os.pipe()
    p = subprocess.Popen(["cat"], stdin=r, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         start_new_session=True)
    os.close(r)
    inode = os.fstat(w).st_ino
    client = swrk()
    answer = client.ask(DUMP, places(tmp_path, pid=p.pid))
    assert answer["success"], answer
    client.wait(), p.wait(), os.close(w)
    r, w = os.pipe()
    client = swrk(pass_fds=[r])
    answer = client.ask(RESTORE, places(tmp_path, rst_sibling=True,
                                        inherit_fd=[{"key": f"pipe:[{inode}]", "fd": r}]))
    assert answer["success"], answer
    client.wait()
    assert os.readlink(f"/proc/{p.pid}/fd/0") == f"pipe:[{os.fstat(w).st_ino}]"
    os.close(r), os.close(w)
    os.waitpid(p.pid, 0)


@pytest.fixture
def service(tmp_path):
    home = Path(tempfile.mkdtemp(prefix="crk-rpc."))  # others may look in, unlike pytest's
    home.chmod(0o755)
    path = home / "sock"
    ready, w = os.pipe()
    p = subprocess.Popen([CR, "service", "--address", path, "-D", tmp_path, "--status-fd", str(w),
                          "--pidfile", "service.pid"], pass_fds=[w])
    os.close(w)
    assert os.read(ready, 2) == b"\0" and os.read(ready, 2) == b""
    os.close(ready)
    assert (tmp_path / "service.pid").read_text() == str(p.pid)
    yield path
    p.kill()
    p.wait()
    shutil.rmtree(home)


def connect(path):
    reap_orphans()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(str(path))
    return Client(s)


def test_a_service_serves_several_clients_at_once(service, maker):
    idle = connect(service)
    client = connect(service)
    ok(client.ask(DUMP, places(maker.images, pid=maker.pid)), maker)
    maker.reap()
    client = connect(service)
    answer = client.ask(RESTORE, places(maker.images, rst_sibling=True))
    assert answer["cr_errno"] == errno.EBADRQC and "rst_sibling" in answer["cr_errmsg"]
    client = connect(service)
    answer = client.ask(RESTORE, places(maker.images, inherit_fd=[{"key": "x", "fd": 0}]))
    assert answer["cr_errno"] == errno.EBADRQC and "inherit_fd" in answer["cr_errmsg"]
    client = connect(service)
    assert ok(client.ask(RESTORE, places(maker.images)), maker)["restore"]["pid"] == maker.pid
    maker.verify()
    assert idle.ask(VERSION)["success"]


def test_a_service_is_for_its_own_user_only(service):
    assert os.stat(service).st_mode & 0o777 == 0o600
    os.chmod(service, 0o666)
    child = os.fork()
    if not child:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.setresuid(65534, 65534, 65534)
        try:
            s.connect(str(service))
            answer = Client(s).receive()
            os._exit(not (answer["type"] == EMPTY and not answer["success"] and
                          answer["cr_errno"] == errno.EPERM and "65534" in answer["cr_errmsg"]))
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_a_service_does_not_take_a_living_ones_address(service, tmp_path):
    done = subprocess.run([CR, "service", "--address", service, "-D", tmp_path], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1 and "cannot listen" in done.stderr
    assert connect(service).ask(VERSION)["success"]


def test_a_service_takes_over_what_a_dead_one_has_left(tmp_path):
    path = tmp_path / "sock"
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(str(path))
    s.close()
    done = subprocess.run([CR, "service", "-d", "--address", path, "-D", tmp_path, "--pidfile", "pid"],
                          timeout=30)
    assert done.returncode == 0
    pid = int((tmp_path / "pid").read_text())
    try:
        assert connect(path).ask(VERSION)["success"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_service_that_is_ended_leaves_nothing_in_the_way_of_the_next(tmp_path, sig):
    for _ in range(2):
        done = subprocess.run([CR, "service", "-d", "--address", "sock", "-D", tmp_path, "--pidfile", "pid", "-o", "log"],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        client = connect(tmp_path / "sock")
        assert client.ask(VERSION, keep_open=True)["success"]
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, sig)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [p.name for p in tmp_path.iterdir()] == ["log"]
        assert client.ask(VERSION)["success"]


@pytest.mark.parametrize("detached", [["-d"], []])
@pytest.mark.parametrize("log", [["-o", "log"], []])
def test_a_service_that_cannot_begin_says_so_at_the_terminal_too(tmp_path, detached, log):
    (tmp_path / "pid").write_text("somebody's")
    done = subprocess.run([CR, "service", *detached, "--address", "sock", "-D", tmp_path, "--pidfile", "pid", *log],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "cannot create pid file pid: File exists" in done.stderr


@pytest.mark.parametrize("detached", [["-d"], []])
@pytest.mark.parametrize("why, options", [("File exists", []), ("status 1", ["--action-script", "/bin/false"])])
def test_a_service_that_cannot_begin_says_so_and_leaves_nothing(tmp_path, detached, why, options):
    if not options:
        (tmp_path / "pid").write_text("somebody's")
    # Its output ends: nobody is left who has it open.
    done = subprocess.run([CR, "service", *detached, "--address", "sock", "-D", tmp_path, "--pidfile", "pid",
                           *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and why in done.stderr, done
    assert [p.name for p in tmp_path.iterdir()] == ([] if options else ["pid"])


def test_swrk_wants_a_seqpacket_socket():
    assert subprocess.run([CR, "swrk"], capture_output=True).returncode == 1
    assert subprocess.run([CR, "swrk", "0"], stdin=subprocess.DEVNULL,
                          capture_output=True).returncode == 255
