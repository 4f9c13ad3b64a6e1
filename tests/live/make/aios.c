/*
 * Kernel AIO: unread events in a small ring that has wrapped, a large ring, a thread that waits
 * for an event, and one that never stops reading a file past the page cache.
 */
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "files_common.h"

#define UNREAD	5
#define DEPTH	16
#define BLOCK	65536u
#define BLOCKS	64

static aio_context_t small, large, direct;
static int waiting_fd, file_fd;
static struct io_event woken;
static volatile int stop;
static const char *volatile trouble;

static aio_context_t setup(unsigned int n)
{
	aio_context_t c = 0;

	if (syscall(SYS_io_setup, n, &c) < 0 && errno == ENOSYS)
		maker_skip("the kernel has no asynchronous I/O (CONFIG_AIO): %s", strerror(errno));
	MAKER_MUST(c);
	return c;
}

/* A read at once done: of an eventfd that has something. */
static void submit(aio_context_t c, int fd, void *buf, uint64_t data, int opcode)
{
	struct iocb cb = { .aio_lio_opcode = (uint16_t)opcode, .aio_fildes = (uint32_t)fd,
			   .aio_buf = (uint64_t)buf, .aio_nbytes = 8, .aio_data = data };
	struct iocb *p = &cb;

	if (opcode == IOCB_CMD_POLL) {
		cb.aio_buf = 1 /* POLLIN */;
		cb.aio_nbytes = 0;
	}
	MAKER_SAME("submitted", syscall(SYS_io_submit, c, 1, &p), 1);
}

static int take(aio_context_t c, int min, int max, struct io_event *ev)
{
	struct timespec now = { 0 };

	return (int)syscall(SYS_io_getevents, c, min, max, ev, min ? NULL : &now);
}

static void *waiter(void *arg)
{
	if (take(large, 1, 1, &woken) != 1)
		trouble = "the waiting thread got no event";
	return arg;
}

/* Up to DEPTH reads in flight at any time, and all of what they bring is looked at. */
static void *reader(void *arg)
{
	char *buf = mmap(NULL, DEPTH * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	struct io_event ev[DEPTH];

	for (unsigned int turn = 0; !stop && !trouble; turn++) {
		struct iocb cb[DEPTH] = { 0 }, *p[DEPTH];
		int n = 0;

		memset(buf, 0, DEPTH * BLOCK);
		for (unsigned int i = 0; i < DEPTH; i++) {
			cb[i].aio_lio_opcode = IOCB_CMD_PREAD;
			cb[i].aio_fildes = (uint32_t)file_fd;
			cb[i].aio_buf = (uint64_t)(buf + i * BLOCK);
			cb[i].aio_nbytes = BLOCK;
			cb[i].aio_offset = (turn + i) % BLOCKS * BLOCK;
			p[i] = &cb[i];
		}
		if (syscall(SYS_io_submit, direct, DEPTH, p) != DEPTH)
			trouble = "the reader cannot submit";
		while (n < DEPTH && !trouble) {
			int got = (int)syscall(SYS_io_getevents, direct, 1, DEPTH - n, ev, NULL);

			for (int i = 0; i < got; i++)
				if (ev[i].res != BLOCK)
					trouble = "a read came back short";
			if (got < 0)
				trouble = "the reader gets no events";
			n += got;
		}
		for (unsigned int i = 0; i < DEPTH && !trouble; i++)
			if (buf[i * BLOCK] != (char)(1 + (turn + i) % BLOCKS) ||
			    buf[i * BLOCK + BLOCK - 1] != (char)(1 + (turn + i) % BLOCKS))
				trouble = "a read brought other data";
	}
	return arg;
}

static int file_make(void)
{
	char *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("direct.dat", O_RDWR | O_CREAT | O_TRUNC, 0600), r;

	MAKER_MUST(fd >= 0);
	for (int i = 0; i < BLOCKS; i++) {
		memset(block, 1 + i, BLOCK);
		MAKER_MUST(write(fd, block, BLOCK) == BLOCK);
	}
	MAKER_MUST(!fsync(fd));
	r = open("direct.dat", O_RDONLY | O_DIRECT);
	return r < 0 ? fd : r;
}

static int rings(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	int n = 0;

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "/[aio]") != NULL;
	fclose(f);
	return n;
}

int main(int argc, char **argv)
{
	uint64_t got[UNREAD], one = 1;
	struct io_event ev[256];
	pthread_t wait_thread, read_thread;
	unsigned int *head;
	int evfd, n = 0;

	maker_begin(argc, argv);
	small = setup(10);
	large = setup(2000);
	direct = setup(DEPTH);
	evfd = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE);
	waiting_fd = eventfd(0, EFD_NONBLOCK);
	file_fd = file_make();
	MAKER_MUST(evfd >= 0 && waiting_fd >= 0);
	/* Round the ring more than once; then some that stay. */
	head = (unsigned int *)small + 2;
	while (n < 300 || *head + UNREAD - 2 < head[-1]) {
		submit(small, evfd, got, 0, IOCB_CMD_PREAD);
		MAKER_SAME("event", take(small, 1, 1, ev), 1);
		n++;
	}
	one = UNREAD;
	MAKER_MUST(write(evfd, &one, 8) == 8);
	memset(got, 0, sizeof(got));
	for (int i = 0; i < UNREAD; i++)
		submit(small, evfd, &got[i], (uint64_t)i + 1000, IOCB_CMD_PREAD);
	for (int i = 0; i < 33; i++)
		submit(large, evfd, ev, 0, IOCB_CMD_PREAD);
	MAKER_SAME("events", take(large, 33, 33, ev), 33);
	pthread_create(&wait_thread, NULL, waiter, NULL);
	pthread_create(&read_thread, NULL, reader, NULL);

	maker_ready();
	maker_wait();

	if (trouble)
		maker_fail("%s", trouble);
	MAKER_SAME("rings", rings(), 3);
	MAKER_SAME("unread", take(small, 0, 256, ev), UNREAD);
	for (int i = 0; i < UNREAD; i++) {
		MAKER_SAME("data", ev[i].data, i + 1000);
		MAKER_SAME("result", ev[i].res, 8);
		MAKER_SAME("what was read", got[i], 1);
	}
	MAKER_SAME("no more", take(small, 0, 256, ev), 0);
	/* Twice round the ring as it is now. */
	for (int i = 0; i < 300; i++) {
		submit(small, evfd, got, (uint64_t)i, IOCB_CMD_PREAD);
		MAKER_SAME("event", take(small, 1, 1, ev), 1);
		MAKER_SAME("its data", ev[0].data, i);
	}
	submit(large, waiting_fd, NULL, 4711, IOCB_CMD_POLL);
	one = 1;
	MAKER_MUST(write(waiting_fd, &one, 8) == 8);
	pthread_join(wait_thread, NULL);
	stop = 1;
	pthread_join(read_thread, NULL);
	if (trouble)
		maker_fail("%s", trouble);
	MAKER_SAME("the waiting thread's data", woken.data, 4711);
	MAKER_MUST(!syscall(SYS_io_destroy, small) && !syscall(SYS_io_destroy, large) &&
		   !syscall(SYS_io_destroy, direct));
	MAKER_SAME("rings left", rings(), 0);
	maker_ok();
}
