/*
 * io_uring: requests not yet submitted and events not yet read, a thread that waits for an event,
 * a ring that only one thread may use, registered files, buffers and eventfd, a kernel's worker
 * thread, a child that shares the ring.
 */
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "files_common.h"

#define SINGLE_ISSUER	(1u << 12)
#define DEFER_TASKRUN	(1u << 13)

struct ring {
	int fd;
	struct io_uring_params p;
	char *rings;
	struct io_uring_sqe *sqes;
};

static struct ring plain, waited, own, fixed;
static volatile int own_ready, own_go, own_done;
static volatile unsigned long long woken;

static volatile unsigned int *at(const struct ring *r, unsigned int off)
{
	return (volatile unsigned int *)(r->rings + off);
}

static struct ring ring_make(unsigned int entries, unsigned int flags)
{
	struct ring r = { .p.flags = flags };
	size_t bytes;

	r.fd = (int)syscall(SYS_io_uring_setup, entries, &r.p);
	if (r.fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL))
		maker_skip("io_uring_setup(flags 0x%x): %s", flags, strerror(errno));
	MAKER_MUST(r.fd >= 0);
	bytes = r.p.cq_off.cqes + r.p.cq_entries * 16;
	if (bytes < r.p.sq_off.array + r.p.sq_entries * 4)
		bytes = r.p.sq_off.array + r.p.sq_entries * 4;
	r.rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r.fd, 0);
	r.sqes = mmap(NULL, r.p.sq_entries * 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		      r.fd, IORING_OFF_SQES);
	MAKER_MUST(r.rings != MAP_FAILED && r.sqes != MAP_FAILED);
	return r;
}

/* Puts a request into the ring, without telling the kernel. */
static struct io_uring_sqe *put(struct ring *r, int opcode, unsigned long long data)
{
	unsigned int tail = *at(r, r->p.sq_off.tail), i = tail & (r->p.sq_entries - 1);
	struct io_uring_sqe *sqe = &r->sqes[i];

	MAKER_MUST(tail - *at(r, r->p.sq_off.head) < r->p.sq_entries);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)opcode;
	sqe->user_data = data;
	*at(r, r->p.sq_off.array + i * 4) = i;
	*at(r, r->p.sq_off.tail) = tail + 1;
	return sqe;
}

static int enter(struct ring *r, unsigned int submit, unsigned int wait)
{
	return (int)syscall(SYS_io_uring_enter, r->fd, submit, wait,
			    wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
}

static unsigned int unread(struct ring *r)
{
	return *at(r, r->p.cq_off.tail) - *at(r, r->p.cq_off.head);
}

static struct io_uring_cqe take(struct ring *r)
{
	unsigned int head = *at(r, r->p.cq_off.head);
	struct io_uring_cqe *cqes = (void *)(r->rings + r->p.cq_off.cqes), cqe;

	MAKER_MUST(unread(r) > 0);
	cqe = cqes[head & (r->p.cq_entries - 1)];
	*at(r, r->p.cq_off.head) = head + 1;
	return cqe;
}

static void nops(struct ring *r, int n)
{
	for (int i = 0; i < n; i++) {
		put(r, IORING_OP_NOP, (unsigned long long)i);
		MAKER_SAME("submitted", enter(r, 1, 1), 1);
		MAKER_SAME("event", take(r).user_data, i);
	}
}

static int reg(struct ring *r, unsigned int what, void *arg, unsigned int n)
{
	return (int)syscall(SYS_io_uring_register, r->fd, what, arg, n);
}

static void *waiter(void *arg)
{
	if (enter(&waited, 0, 1) < 0)
		maker_fail("waiting for an event: %s", strerror(errno));
	woken = take(&waited).user_data;
	return arg;
}

/* The only one that may use its ring. */
static void *owner(void *arg)
{
	uint64_t ticks = 0;
	int own_efd;

	own = ring_make(16, SINGLE_ISSUER | DEFER_TASKRUN);
	nops(&own, 333);
	own_efd = eventfd(0, EFD_NONBLOCK);
	MAKER_MUST(!reg(&own, IORING_REGISTER_EVENTFD, &own_efd, 1));
	own_ready = 1;
	while (!own_go)
		usleep(1000);
	if (read(own_efd, &ticks, 8) == 8)
		maker_fail("%llu events of the ring are announced again", (unsigned long long)ticks);
	nops(&own, 50);
	MAKER_SAME("announced", read(own_efd, &ticks, 8) == 8 ? ticks : 0, 50);
	own_done = 1;
	return arg;
}

int main(int argc, char **argv)
{
	int pipes[2], files[4] = { -1, -1, -1, -1 }, efd, status, count;
	char *buf = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov[2] = { { buf, 4096 }, { buf + 8192, 16384 } };
	pthread_t wait_thread, own_thread;
	struct io_uring_sqe *sqe;
	uint64_t ticks;
	pid_t child;

	maker_begin(argc, argv);
	plain = ring_make(8, 0);
	waited = ring_make(32, 0);
	fixed = ring_make(64, 0);

	nops(&plain, 1005);
	for (int i = 0; i < 3; i++)
		put(&plain, IORING_OP_NOP, (unsigned long long)i + 100);
	MAKER_SAME("submitted", enter(&plain, 3, 0), 3);
	MAKER_SAME("unread", unread(&plain), 3);
	put(&plain, IORING_OP_NOP, 200);
	put(&plain, IORING_OP_NOP, 201);
	/* One that a worker thread of the kernel does. */
	put(&waited, IORING_OP_NOP, 1)->flags = IOSQE_ASYNC;
	MAKER_SAME("submitted", enter(&waited, 1, 1), 1);
	take(&waited);

	efd = eventfd(0, EFD_NONBLOCK);
	MAKER_MUST(!pipe(pipes) && efd >= 0);
	files[2] = pipes[0];
	MAKER_MUST(!reg(&fixed, IORING_REGISTER_FILES, files, 4));
	MAKER_MUST(!reg(&fixed, IORING_REGISTER_BUFFERS, iov, 2));
	MAKER_MUST(!reg(&fixed, IORING_REGISTER_EVENTFD, &efd, 1));
	nops(&fixed, 77);

	pthread_create(&wait_thread, NULL, waiter, NULL);
	pthread_create(&own_thread, NULL, owner, NULL);
	while (!own_ready)
		usleep(1000);
	child = fork();
	if (!child) {
		sigset_t set;
		int sig;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigwait(&set, &sig);
		_exit(unread(&plain) == 5 ? 0 : 1);
	}
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("descriptors", fd_count(), count);
	MAKER_SAME("unread", unread(&plain), 3);
	MAKER_SAME("submitted later", enter(&plain, 2, 0), 2);
	MAKER_SAME("unread", unread(&plain), 5);
	kill(child, SIGUSR1);
	MAKER_MUST(waitpid(child, &status, 0) == child);
	MAKER_SAME("the child's view", status, 0);
	for (int i = 0; i < 3; i++)
		MAKER_SAME("event", take(&plain).user_data, i + 100);
	MAKER_SAME("event", take(&plain).user_data, 200);
	MAKER_SAME("event", take(&plain).user_data, 201);
	nops(&plain, 100);

	put(&waited, IORING_OP_NOP, 4711);
	MAKER_SAME("submitted", enter(&waited, 1, 0), 1);
	pthread_join(wait_thread, NULL);
	MAKER_SAME("the waiting thread's event", woken, 4711);
	own_go = 1;
	pthread_join(own_thread, NULL);
	MAKER_SAME("the only thread's ring", own_done, 1);

	MAKER_SAME("events announced", read(efd, &ticks, 8) == 8 ? ticks : 0, 77);
	MAKER_MUST(write(pipes[1], "through a fixed file", 21) == 21);
	sqe = put(&fixed, IORING_OP_READ_FIXED, 5);
	sqe->fd = 2;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->addr = (unsigned long long)iov[1].iov_base + 100;
	sqe->len = 100;
	sqe->off = -1ull;
	sqe->buf_index = 1;
	MAKER_SAME("submitted", enter(&fixed, 1, 1), 1);
	MAKER_SAME("result", take(&fixed).res, 21);
	if (strcmp(buf + 8192 + 100, "through a fixed file"))
		maker_fail("the fixed buffer holds \"%s\"", buf + 8192 + 100);
	MAKER_SAME("announced", read(efd, &ticks, 8) == 8 ? ticks : 0, 1);
	maker_ok();
}
