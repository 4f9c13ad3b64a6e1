/*
 * Unix sockets whose file is not where their name says: renamed when ready to serve, published by a
 * hard link, in a directory that was renamed, in a chroot; removed ones whose directory is gone or whose
 * name another has. Each is reached where it was, keeps its name, and touches nobody else's file.
 */
#include "sock_common.h"

static int listening(const char *name)
{
	int fd = sock_un_bound(SOCK_STREAM, name);

	MAKER_MUST(!listen(fd, 7));
	return fd;
}

static void expect_name(int fd, const char *name)
{
	struct sockaddr_un a, should;
	socklen_t len = sizeof(a), n = sock_un(&should, name);

	memset(&a, 0, sizeof(a));
	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	if (len != n || memcmp(&a, &should, n))
		maker_fail("is called \"%s\" (%u bytes) instead of %s", a.sun_path, len, name);
}

static void expect_works(const char *what, int listener, const char *path)
{
	int c = sock_un_connected(SOCK_STREAM, path, -1), s;

	MAKER_MUST(!fcntl(listener, F_SETFL, O_NONBLOCK));
	s = accept(listener, NULL, NULL);
	if (s < 0)
		maker_fail("%s: the connection went elsewhere", what);
	sock_talk(what, c, s);
	close(c);
	close(s);
	MAKER_MUST(!unlink(path));
}

static void expect_nothing(const char *path)
{
	if (!access(path, F_OK) || errno != ENOENT)
		maker_fail("%s is there", path);
}

/* In a chroot; ended by SIGKILL. */
static pid_t in_chroot(const char *dir, const char *name)
{
	int told[2];
	char c;
	pid_t pid;

	MAKER_MUST(!pipe(told));
	pid = fork();
	MAKER_MUST(pid >= 0);
	if (!pid) {
		MAKER_MUST(!chroot(dir) && !chdir("/"));
		listening(name);
		MAKER_MUST(write(told[1], "x", 1) == 1);
		close(told[0]);
		close(told[1]);
		for (;;)
			pause();
	}
	MAKER_MUST(read(told[0], &c, 1) == 1);
	close(told[0]);
	close(told[1]);
	return pid;
}

int main(int argc, char **argv)
{
	int number, first, second, relative, linked, moved_dir, gone, replaced, replacing, rx, tx, foreign;
	char name[80], dir[64], jailed[80];
	struct stat st, ours;
	pid_t jail;

	maker_begin(argc, argv);
	number = maker_number();
	snprintf(dir, sizeof(dir), "/tmp/maker-moved-%d", number);
	snprintf(name, sizeof(name), "%s/tmp", dir);
	snprintf(jailed, sizeof(jailed), "/jailed-%d", number);
	MAKER_MUST((!mkdir(dir, 0755) || errno == EEXIST) && !chdir(dir));
	first = listening(name);
	MAKER_MUST(!chmod(name, 0640) && !chown(name, 12, 34) && !rename(name, "first"));
	second = listening(name);
	MAKER_MUST(!rename(name, "second"));
	/* What has the name now stays. */
	foreign = open(name, O_CREAT | O_WRONLY | O_EXCL, 0600);
	MAKER_MUST(foreign >= 0 && !fstat(foreign, &ours) && !close(foreign));

	relative = listening("relative.tmp");
	MAKER_MUST(!rename("relative.tmp", "relative"));
	linked = listening("linked.tmp");
	MAKER_MUST(!link("linked.tmp", "linked") && !unlink("linked.tmp"));
	MAKER_MUST(!mkdir("before", 0755));
	moved_dir = listening("before/socket");
	MAKER_MUST(!rename("before", "after"));
	MAKER_MUST(!mkdir("passing", 0755));
	gone = listening("passing/gone");
	MAKER_MUST(!unlink("passing/gone") && !rmdir("passing"));
	replacing = socket(AF_UNIX, SOCK_STREAM, 0);	/* has the lower number */
	replaced = listening("replaced");
	MAKER_MUST(!unlink("replaced"));
	{
		struct sockaddr_un a;
		socklen_t len = sock_un(&a, "replaced");

		MAKER_MUST(!bind(replacing, (struct sockaddr *)&a, len) && !listen(replacing, 3));
	}
	rx = sock_un_bound(SOCK_DGRAM, "datagrams.tmp");
	MAKER_MUST(!rename("datagrams.tmp", "datagrams"));
	tx = sock_un_connected(SOCK_DGRAM, "datagrams", -1);
	MAKER_MUST(send(tx, "first", 5, 0) == 5);
	MAKER_MUST(!mkdir("root", 0755));
	jail = in_chroot("root", jailed);

	maker_ready();
	maker_wait();

	MAKER_MUST(!stat("first", &st));
	MAKER_SAME("mode", st.st_mode, S_IFSOCK | 0640);
	MAKER_SAME("owner", st.st_uid, 12);
	MAKER_SAME("group", st.st_gid, 34);
	expect_name(first, name);
	expect_works("renamed", first, "first");
	expect_name(second, name);
	expect_works("renamed from the same name", second, "second");
	MAKER_MUST(!stat(name, &st));
	MAKER_SAME("file that has the name now", st.st_ino, ours.st_ino);
	expect_name(relative, "relative.tmp");
	expect_works("relative", relative, "relative");
	expect_nothing("relative.tmp");
	expect_name(linked, "linked.tmp");
	expect_works("linked", linked, "linked");
	expect_nothing("linked.tmp");
	expect_name(moved_dir, "before/socket");
	expect_works("directory renamed", moved_dir, "after/socket");
	expect_nothing("before");
	expect_name(gone, "passing/gone");
	expect_nothing("passing");
	expect_name(replaced, "replaced");
	expect_works("replacing", replacing, "replaced");
	expect_name(rx, "datagrams.tmp");
	sock_expect("datagram", rx, "first", 5);
	MAKER_MUST(send(tx, "more", 4, 0) == 4);
	sock_expect("datagram", rx, "more", 4);
	close(sock_un_connected(SOCK_DGRAM, "datagrams", -1));
	expect_nothing(jailed);
	snprintf(name, sizeof(name), "root%s", jailed);
	close(sock_un_connected(SOCK_STREAM, name, -1));
	kill(jail, SIGKILL);
	MAKER_MUST(waitpid(jail, NULL, 0) == jail);

	MAKER_MUST(!unlink(name) && !unlink("datagrams") && !unlink("tmp"));
	MAKER_MUST(!rmdir("root") && !rmdir("after"));
	/* Nothing else was left. */
	MAKER_MUST(!chdir("/") && !rmdir(dir));
	maker_ok();
}
