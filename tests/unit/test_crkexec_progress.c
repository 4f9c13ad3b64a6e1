/* What an operator watches must not hold up services that stand still. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>

#include "crkexec/progress.h"
#include "unit.h"

/* Ends by SIGALRM where a write waits. */
static void write_in_a_hurry(int fd)
{
	struct progress p;

	ASSERT_OK(dup2(fd, 50));
	progress_init(&p, 50);
	alarm(10);
	progress_hurry(&p);
	for (int i = 0; i < 2000; i++)
		progress_line(&p, "a line that nobody reads, %0200d", i);
	progress_no_hurry(&p);
	alarm(0);
	ASSERT(!p.quiet);
	ASSERT_EQ(fcntl(50, F_GETFL) & O_NONBLOCK, 0);
}

TEST("a terminal that is stopped does not hold up services that are frozen")
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	char text[64];

	ASSERT_OK(master);
	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	ASSERT_OK(slave);
	ASSERT_OK(tcflow(slave, TCOOFF));
	write_in_a_hurry(slave);
	/* When it runs again it shows the rest. */
	ASSERT_OK(tcflow(slave, TCOON));
	ASSERT_EQ(write(slave, "now", 3), 3);
	ASSERT_EQ(read(master, text, sizeof(text)), 3);
}

TEST("a pipe that nobody reads does not hold up services that are frozen")
{
	char text[64] = "";
	int p[2];

	ASSERT_OK(pipe(p));
	write_in_a_hurry(p[1]);
	ASSERT_OK(read(p[0], text, sizeof(text) - 1));
	ASSERT_CONTAINS(text, "a line that nobody reads");
	/* For the shell's other commands it waits as before. */
	ASSERT_EQ(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
}

TEST("a file gets every line, one behind the other")
{
	char path[300];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/out", unit_tmpdir());
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ASSERT_EQ(write(fd, "before\n", 7), 7);
	write_in_a_hurry(fd);
	ASSERT_OK(fstat(fd, &st));
	ASSERT_EQ(st.st_size, 7 + 2000 * (strlen("a line that nobody reads, ") + 200 + 1));
}
