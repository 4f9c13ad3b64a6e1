/* cr/core/fd_list.c: the descriptors of a process of our own, read together, are what /proc says of each. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/files.h"
#include "kernel/status.h"
#include "task/parts.h"
#include "unit.h"

#define MANY	300	/* several pieces of work */
#define WATCHED	64	/* lines of fdinfo: more than is read at once */

/* A path that is longer than those that are read together. */
static void long_path(char *ret, size_t bytes)
{
	size_t n = (size_t)snprintf(ret, bytes, "%s/", unit_tmpdir());

	memset(ret + n, 'x', 250);
	ret[n + 250] = '\0';
	ASSERT_EQ(mkdir(ret, 0700), 0);
	snprintf(ret + n + 250, bytes - n - 250, "/%0100d", 1);
}

static pid_t make_holder(int *ret_ready, char *path, size_t bytes)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		return -1;
	long_path(path, bytes);
	pid = fork();
	if (!pid) {
		int ep;

		/* Whatever becomes of the test. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		ep = epoll_create1(EPOLL_CLOEXEC);
		if (open(path, O_CREAT | O_RDWR, 0600) < 0)
			_exit(1);
		for (int i = 0; i < MANY; i++) {
			struct epoll_event e = { .events = EPOLLIN };
			int fd = eventfd((unsigned int)i, EFD_CLOEXEC);

			if (fd < 0 || (i < WATCHED && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)))
				_exit(1);
		}
		/* Numbers with holes. */
		for (int fd = 20; fd < MANY; fd += 7)
			close(fd);
		if (write(fds[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	*ret_ready = fds[0];
	return pid;
}

static void check_one(const struct dump_process *p, const struct dump_fd *d, size_t *n_long)
{
	_cleanup_free_ char *link = NULL, *text = NULL;
	char path[32];

	snprintf(path, sizeof(path), "fd/%d", d->t_fd);
	ASSERT_OK(readlink_at(p->proc_fd, path, &link));
	ASSERT_STREQ(d->link, link);
	snprintf(path, sizeof(path), "fdinfo/%d", d->t_fd);
	ASSERT_OK(read_file_at(p->proc_fd, path, READ_FILE_MAX, &text, NULL));
	ASSERT_STREQ(d->fdinfo, text);
	*n_long += (strlen(link) > 255) + (strlen(text) > 2048);
}

/* Its name has changed since. */
static void check_renamed(struct dump_ctx *ctx, struct dump_process *p, const char *path)
{
	_cleanup_free_ char *to = str_fmt("%s.1", path);
	struct dump_file f = { .owner = p, .t_fd = -1 };

	for (size_t i = 0; i < p->n_fds; i++)
		if (!strcmp(p->fds[i].link, path))
			f = (struct dump_file){ .owner = p, .t_fd = p->fds[i].t_fd, .link = p->fds[i].link };
	ASSERT(f.t_fd >= 0);
	ASSERT_EQ(dump_link_again(ctx, &f), 0);
	ASSERT_EQ(rename(path, to), 0);
	ASSERT_EQ(dump_link_again(ctx, &f), 1);
	ASSERT_STREQ(f.link, to);
	ASSERT_EQ(rename(to, path), 0);
	f.t_fd = -1;
	ASSERT_EQ(dump_link_again(ctx, &f), 0);
}

TEST("descriptors read together are what /proc tells of each, in order, long texts too")
{
	struct dump_ctx ctx = { 0 };
	struct dump_process p = { .ctx = &ctx, .life = TASK_ALIVE, .proc_fd = -1 };
	char path[512], c;
	size_t n_long = 0;
	int ready;

	arena_init(&ctx.arena);
	p.pid = make_holder(&ready, path, sizeof(path));
	ASSERT(p.pid > 0);
	ASSERT_EQ(read(ready, &c, 1), 1);
	close(ready);
	{
		char proc[32];

		snprintf(proc, sizeof(proc), "/proc/%d", p.pid);
		p.proc_fd = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	ASSERT_OK(dump_fd_list(&ctx, &p));
	ASSERT_OK(dump_fd_infos(&ctx, &p));
	ASSERT(p.n_fds > MANY * 5 / 6);
	for (size_t i = 0; i < p.n_fds; i++) {
		ASSERT(!i || p.fds[i].t_fd > p.fds[i - 1].t_fd);
		ASSERT(dump_fd_find(&p, p.fds[i].t_fd) == &p.fds[i]);
		check_one(&p, &p.fds[i], &n_long);
	}
	/* The file's link and the epoll's lines. */
	ASSERT_EQ(n_long, 2);
	ASSERT(!dump_fd_find(&p, 20));
	ASSERT(!dump_fd_find(&p, -1));
	ASSERT(!dump_fd_find(&p, 1 << 20));
	check_renamed(&ctx, &p, path);
	kill(p.pid, SIGKILL);
	waitpid(p.pid, NULL, 0);
	/* Gone: said, and nothing is made up. */
	p.fds = NULL;
	p.n_fds = 0;
	ASSERT(dump_fd_list(&ctx, &p) < 0);
	close(p.proc_fd);
	arena_done(&ctx.arena);
}

TEST("a thread's status is read with those of all threads of its process")
{
	struct dump_ctx ctx = { 0 };
	struct dump_thread threads[2] = { { .task = { .tid = getpid() } }, { .task = { .tid = INT32_MAX } } };
	struct dump_process p = { .ctx = &ctx, .pid = getpid(), .threads = threads, .n_threads = 1 };
	const struct proc_status *st = NULL;

	arena_init(&ctx.arena);
	p.proc_fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ASSERT(p.proc_fd >= 0);
	ASSERT_OK(task_status(&ctx, &p, &threads[0], &st));
	ASSERT(st && st->tgid == getpid());
	ASSERT(threads[0].status == st);
	/* One that is not there is an error for who asks, and takes nothing from the other. */
	p.n_threads = 2;
	ASSERT(task_status(&ctx, &p, &threads[1], &st) < 0);
	ASSERT(!threads[1].status && threads[0].status);
	close(p.proc_fd);
	arena_done(&ctx.arena);
}
