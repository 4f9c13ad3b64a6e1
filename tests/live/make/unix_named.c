/*
 * Named unix sockets: listeners (path, relative path, abstract, deleted), permissions of the
 * file, accepted connections that show the listener's name, a client with a name, connections
 * not yet accepted, datagram receivers with senders connected one way.
 */
#include "sock_common.h"

static int listening(int type, const char *name)
{
	int fd = sock_un_bound(type, name);

	MAKER_MUST(!listen(fd, 7));
	return fd;
}

static void expect_name(const char *what, int fd, const char *name, bool of_peer)
{
	struct sockaddr_un a, should;
	socklen_t len = sizeof(a), n = name ? sock_un(&should, name) : 2;

	memset(&a, 0, sizeof(a));
	MAKER_MUST(!(of_peer ? getpeername : getsockname)(fd, (struct sockaddr *)&a, &len));
	if (len != n || (name && memcmp(&a, &should, n)))
		maker_fail("%s: is called \"%s\" (%u bytes) instead of %s", what, a.sun_path, len,
			   name ? name : "nothing");
}

static void expect_works(const char *what, int type, int listener, const char *name)
{
	int c = sock_un_connected(type, name, -1), s = accept(listener, NULL, NULL);

	MAKER_MUST(s >= 0);
	sock_talk(what, c, s);
	close(c);
	close(s);
}

int main(int argc, char **argv)
{
	char path[80], abstract[40], receiver[80], gone[80], named[80], dir[64];
	int l_path, l_rel, l_abs, l_gone, c, s, waiting, named_c, named_s, rx, tx, abs_c, abs_s;
	struct stat st;

	maker_begin(argc, argv);
	snprintf(dir, sizeof(dir), "/tmp/maker-unix-%d", maker_number());
	snprintf(path, sizeof(path), "%s/listen", dir);
	snprintf(receiver, sizeof(receiver), "%s/datagrams", dir);
	snprintf(gone, sizeof(gone), "%s/gone", dir);
	snprintf(named, sizeof(named), "%s/client", dir);
	snprintf(abstract, sizeof(abstract), "@maker-unix-%d", maker_number());
	MAKER_MUST((!mkdir(dir, 0755) || errno == EEXIST) && !chdir(dir));

	l_path = listening(SOCK_STREAM, path);
	MAKER_MUST(!chmod(path, 0640) && !chown(path, 12, 34));
	c = sock_un_connected(SOCK_STREAM, path, -1);
	s = accept(l_path, NULL, NULL);
	MAKER_MUST(s >= 0 && send(c, "hello", 5, 0) == 5);
	named_c = sock_un_bound(SOCK_STREAM, named);
	sock_un_connected(SOCK_STREAM, path, named_c);
	named_s = accept(l_path, NULL, NULL);
	waiting = sock_un_connected(SOCK_STREAM, path, -1);

	l_rel = listening(SOCK_STREAM, "relative");
	l_abs = listening(SOCK_SEQPACKET, abstract);
	abs_c = sock_un_connected(SOCK_SEQPACKET, abstract, -1);
	abs_s = accept(l_abs, NULL, NULL);
	l_gone = listening(SOCK_STREAM, gone);
	MAKER_MUST(!unlink(gone));

	rx = sock_un_bound(SOCK_DGRAM, receiver);
	tx = sock_un_connected(SOCK_DGRAM, receiver, -1);
	MAKER_MUST(send(tx, "first", 5, 0) == 5 && send(tx, "2", 1, 0) == 1);
	MAKER_MUST(!chdir("/"));

	maker_ready();
	maker_wait();

	MAKER_MUST(!stat(path, &st));
	MAKER_SAME("mode", st.st_mode, S_IFSOCK | 0640);
	MAKER_SAME("owner", st.st_uid, 12);
	MAKER_SAME("group", st.st_gid, 34);
	expect_name("listener", l_path, path, false);
	if (!maker_is_plain()) {
		expect_name("accepted", s, path, false);
		expect_name("client's peer", c, path, true);
	}
	expect_name("client", c, NULL, false);
	sock_expect("accepted", s, "hello", 5);
	sock_talk("accepted", c, s);
	if (!maker_is_plain()) {
		expect_name("named client", named_c, named, false);
		expect_name("named client's server", named_s, named, true);
	}
	sock_talk("named client", named_c, named_s);
	s = accept(l_path, NULL, NULL);
	MAKER_MUST(s >= 0);
	sock_talk("accepted late", waiting, s);
	expect_works("path", SOCK_STREAM, l_path, path);
	MAKER_MUST(!chdir(dir));
	expect_name("relative", l_rel, "relative", false);
	expect_works("relative", SOCK_STREAM, l_rel, "relative");
	if (!maker_is_plain())
		expect_name("abstract", abs_s, abstract, false);
	sock_talk("abstract", abs_c, abs_s);
	expect_works("abstract", SOCK_SEQPACKET, l_abs, abstract);
	expect_name("deleted", l_gone, gone, false);
	MAKER_MUST(stat(gone, &st) == -1 && errno == ENOENT);
	sock_expect("datagram", rx, "first", 5);
	sock_expect("datagram", rx, "2", 1);
	sock_empty("datagram", rx);
	MAKER_MUST(send(tx, "more", 4, 0) == 4);
	sock_expect("datagram", rx, "more", 4);
	expect_name("receiver", rx, receiver, false);
	unlink(path);
	unlink("relative");
	unlink(receiver);
	unlink(named);
	MAKER_MUST(!chdir("/") && !rmdir(dir));
	maker_ok();
}
