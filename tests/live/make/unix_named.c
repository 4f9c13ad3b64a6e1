/*
 * Named unix sockets: listeners (path, relative path, abstract, deleted), permissions of the
 * file, accepted connections that show the listener's name, a client with a name, connections
 * not yet accepted, datagram receivers with senders connected one way.
 */
#include "sock_common.h"

static socklen_t address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, name, strlen(name));
	if (name[0] == '@')
		a->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) +
			   (name[0] == '@' ? 0 : 1));
}

static int bound(int type, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = address(&a, name);
	int fd = socket(AF_UNIX, type, 0);

	MAKER_MUST(fd >= 0);
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		maker_fail("bind to %s: %s", name, strerror(errno));
	if (type != SOCK_DGRAM)
		MAKER_MUST(!listen(fd, 7));
	return fd;
}

static int connected(int type, const char *name, int fd)
{
	struct sockaddr_un a;
	socklen_t len = address(&a, name);

	if (fd < 0)
		fd = socket(AF_UNIX, type, 0);
	MAKER_MUST(fd >= 0);
	if (connect(fd, (struct sockaddr *)&a, len) < 0)
		maker_fail("connect to %s: %s", name, strerror(errno));
	return fd;
}

static void expect_name(const char *what, int fd, const char *name, bool of_peer)
{
	struct sockaddr_un a, should;
	socklen_t len = sizeof(a), n = name ? address(&should, name) : 2;

	memset(&a, 0, sizeof(a));
	MAKER_MUST(!(of_peer ? getpeername : getsockname)(fd, (struct sockaddr *)&a, &len));
	if (len != n || (name && memcmp(&a, &should, n)))
		maker_fail("%s: is called \"%s\" (%u bytes) instead of %s", what, a.sun_path, len,
			   name ? name : "nothing");
}

static void expect_works(const char *what, int type, int listener, const char *name)
{
	int c = connected(type, name, -1), s = accept(listener, NULL, NULL);

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
	snprintf(dir, sizeof(dir), "/tmp/maker-unix-%d", getpid());
	snprintf(path, sizeof(path), "%s/listen", dir);
	snprintf(receiver, sizeof(receiver), "%s/datagrams", dir);
	snprintf(gone, sizeof(gone), "%s/gone", dir);
	snprintf(named, sizeof(named), "%s/client", dir);
	snprintf(abstract, sizeof(abstract), "@maker-unix-%d", getpid());
	MAKER_MUST(!mkdir(dir, 0755) && !chdir(dir));

	l_path = bound(SOCK_STREAM, path);
	MAKER_MUST(!chmod(path, 0640) && !chown(path, 12, 34));
	c = connected(SOCK_STREAM, path, -1);
	s = accept(l_path, NULL, NULL);
	MAKER_MUST(s >= 0 && send(c, "hello", 5, 0) == 5);
	named_c = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un a;

		MAKER_MUST(!bind(named_c, (struct sockaddr *)&a, address(&a, named)));
	}
	connected(SOCK_STREAM, path, named_c);
	named_s = accept(l_path, NULL, NULL);
	waiting = connected(SOCK_STREAM, path, -1);

	l_rel = bound(SOCK_STREAM, "relative");
	l_abs = bound(SOCK_SEQPACKET, abstract);
	abs_c = connected(SOCK_SEQPACKET, abstract, -1);
	abs_s = accept(l_abs, NULL, NULL);
	l_gone = bound(SOCK_STREAM, gone);
	MAKER_MUST(!unlink(gone));

	rx = bound(SOCK_DGRAM, receiver);
	tx = connected(SOCK_DGRAM, receiver, -1);
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
