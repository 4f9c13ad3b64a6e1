/*
 * What is in a POSIX message queue.
 *
 * The kernel has no way to look at messages without taking them out. They are out for some
 * microseconds, in a child of the engine: whatever happens to the engine, it puts them back.
 */
#include <ctype.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kind/mqueue.h"

static int number_after(const char *text, const char *key, uint64_t max, uint64_t *ret)
{
	const char *at = strstr(text, key);
	char *end;

	if (!at || !isdigit((unsigned char)at[strlen(key)]))
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(at + strlen(key), &end, 10);
	return errno || *ret > max || !isspace((unsigned char)*end) ? -EBADMSG : 0;
}

int mqueue_info_parse(const char *text, struct mqueue_info *ret)
{
	uint64_t pid;
	int r = number_after(text, "QSIZE:", SIZE_MAX / 4, &ret->bytes);

	if (r >= 0)
		r = number_after(text, "NOTIFY_PID:", INT32_MAX, &pid);
	if (r >= 0)
		ret->notify_pid = (pid_t)pid;
	return r;
}

int mqueue_info_read(int fd, struct mqueue_info *ret)
{
	char text[128];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return neg_errno();
	text[n] = '\0';
	return mqueue_info_parse(text, ret);
}

struct record {
	uint32_t priority, bytes;
	char data[];
};

/* Shared with the child. */
struct copy {
	size_t room;
	uint32_t n_wanted, n;
	int error;
	struct record records[];
};

static struct record *record_next(struct record *rec)
{
	return (void *)((char *)rec + ROUND_UP(sizeof(*rec) + rec->bytes, 8));
}

static int take_out(int fd, struct copy *c, size_t msgsize)
{
	struct record *rec = c->records;

	for (c->n = 0; c->n < c->n_wanted; c->n++, rec = record_next(rec)) {
		ssize_t n;

		if (rec->data + msgsize > (char *)c + c->room)
			return -EOVERFLOW;	/* somebody has just sent more */
		n = mq_receive(fd, rec->data, msgsize, &rec->priority);
		if (n < 0)
			return neg_errno();
		rec->bytes = (uint32_t)n;
	}
	return 0;
}

/*
 * Whatever was taken: in that order each priority has the order it had. Waits for room: if the
 * engine has died just now somebody of the tree may have used what was free.
 */
static int put_back(int fd, struct copy *c)
{
	struct mq_attr blocking = { .mq_flags = 0 };
	struct record *rec = c->records;
	int r = mq_setattr(fd, &blocking, NULL) < 0 ? neg_errno() : 0;

	for (uint32_t i = 0; i < c->n; i++, rec = record_next(rec))
		if (mq_send(fd, rec->data, rec->bytes, rec->priority) < 0)
			r = neg_errno();
	return r;
}

static void child_main(pid_t engine, int fd, struct copy *c, size_t msgsize)
{
	int taken, back;

	/* Without the engine the tree runs, and whoever waits to send would come between. */
	if (getppid() != engine)
		_exit(0);
	taken = take_out(fd, c, msgsize);
	back = put_back(fd, c);
	c->error = back < 0 ? back : taken;
	_exit(0);
}

static int run_child(int fd, struct copy *c, size_t msgsize)
{
	sigset_t all, before;
	pid_t engine = getpid(), pid;
	int status = 0;

	c->error = -ECHILD;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (!pid) {
		setsid();
		child_main(engine, fd, c, msgsize);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return neg_errno();
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return c->error;
}

static MqueueMessage *message(struct arena *a, const struct record *rec)
{
	MqueueMessage *m = ARENA_MSG(a, MqueueMessage, mqueue_message);

	if (!m)
		return NULL;
	m->priority = rec->priority;
	m->data.len = rec->bytes;
	m->data.data = arena_memdup(a, rec->data, rec->bytes);
	return m->data.data ? m : NULL;
}

static int to_messages(struct arena *a, struct copy *c, MqueueMessage ***ret, size_t *ret_n)
{
	struct record *rec = c->records;

	*ret_n = 0;
	*ret = arena_alloc(a, c->n * sizeof(**ret));
	for (; *ret && *ret_n < c->n; rec = record_next(rec)) {
		(*ret)[*ret_n] = message(a, rec);
		if (!(*ret)[(*ret_n)++])
			return -ENOMEM;
	}
	return *ret ? 0 : -ENOMEM;
}

int mqueue_read(struct arena *a, int fd, MqueueMessage ***ret, size_t *ret_n)
{
	struct mqueue_info info;
	struct mq_attr attr;
	struct copy *c;
	size_t room;
	int r = mqueue_info_read(fd, &info);

	if (r >= 0 && mq_getattr(fd, &attr) < 0)
		r = neg_errno();
	if (r < 0)
		return r;
	/* The last is received with room for the largest. */
	room = sizeof(*c) + info.bytes + (size_t)attr.mq_curmsgs * 2 * sizeof(struct record) +
	       sizeof(struct record) + (size_t)attr.mq_msgsize;
	c = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (c == MAP_FAILED)
		return neg_errno();
	c->room = room;
	c->n_wanted = (uint32_t)attr.mq_curmsgs;
	r = run_child(fd, c, (size_t)attr.mq_msgsize);
	if (r >= 0)
		r = to_messages(a, c, ret, ret_n);
	munmap(c, room);
	return r;
}
