/*
 * Tracking which pages are written between two dumps.
 *
 * Soft-dirty bits belong to the process: "4" to /proc/PID/clear_refs begins, pagemap tells.
 *
 * Without them (CONFIG_MEM_SOFT_DIRTY), a userfaultfd in asynchronous write-protect mode: the kernel
 * itself resolves the faults and PAGEMAP_SCAN tells which pages are not protected any more. It
 * belongs to an address space, so the task itself must make it; it is taken from there at once and
 * lives as long as struct cr_track. Areas that are not registered (mapped since, moved, a forked
 * child's, after exec) count as written, and so do pages that were not there before.
 *
 * Neither sees what devices write to pinned pages: a process that does asynchronous I/O is not
 * tracked.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kernel/features.h"
#include "task/mem_track.h"

/* Newer than the build machine's header may be. */
#define CR_UFFD_USER_MODE_ONLY		1
#define CR_UFFD_FEATURE_WP_UNPOPULATED	(1u << 13)
#define CR_UFFD_FEATURE_WP_ASYNC	(1u << 15)
#define PROCESSES_MAX			(1u << 20)
#define RUN_ID_BYTES			37u

struct tracked {
	pid_t pid;
	uint64_t start_ticks;		/* the pid may be another's by now */
	int uffd;
};

struct cr_track {
	struct tracked *e;
	size_t n, room;
	char since[RUN_ID_BYTES];	/* run id of the dump that it began with */
};

bool cr_track_needed(void)
{
	return !kernel_has_soft_dirty();
}

bool cr_track_supported(void)
{
	return kernel_has_wp_async();
}

int cr_track_new(struct cr_track **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

static void forget_all(struct cr_track *t)
{
	for (size_t i = 0; i < t->n; i++)
		close_fdp(&t->e[i].uffd);
	t->n = 0;
}

void cr_track_free(struct cr_track *t)
{
	if (!t)
		return;
	forget_all(t);
	free(t->e);
	free(t);
}

static struct tracked *find(struct cr_track *t, pid_t pid, uint64_t start_ticks)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->e[i].pid == pid && t->e[i].start_ticks == start_ticks)
			return &t->e[i];
	return NULL;
}

/* Takes the descriptor, also on failure. */
static int add(struct cr_track *t, struct tracked new)
{
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 16;
		struct tracked *more = reallocarray(t->e, room, sizeof(*more));

		if (!more) {
			close(new.uffd);
			return -ENOMEM;
		}
		t->e = more;
		t->room = room;
	}
	t->e[t->n++] = new;
	return 0;
}

int mem_track_check(const struct dump_ctx *ctx)
{
	if (ctx->opts->track) {
		if (kernel_has_wp_async())
			return 0;
		return log_fail(-EOPNOTSUPP, "the kernel cannot track memory with userfaultfd (Linux 6.7, CONFIG_USERFAULTFD); dump without pre-dumps");
	}
	if (kernel_has_soft_dirty())
		return 0;
	return log_fail(-EOPNOTSUPP, "the kernel cannot track memory with soft-dirty bits (CONFIG_MEM_SOFT_DIRTY); dump without pre-dumps");
}

/* Devices write to pinned pages and no page table says so. */
static bool does_async_io(const struct dump_process *p)
{
	for (size_t i = 0; i < p->n_vmas; i++)
		if (p->vmas[i].status & VMA_AIORING ||
		    str_starts(p->vmas[i].path, "anon_inode:[io_uring]"))
			return true;
	return false;
}

enum mem_tracking mem_track_how(const struct dump_ctx *ctx, const struct dump_process *p)
{
	struct cr_track *t = ctx->opts->track;

	if (does_async_io(p))
		return TRACK_NOT;
	if (t)
		return find(t, p->pid, p->start_ticks) ? TRACK_WRITE_PROTECT : TRACK_NOT;
	return ctx->soft_dirty ? TRACK_SOFT_DIRTY : TRACK_NOT;
}

struct take {
	const struct dump_process *p;
	const struct batch *b;
	int call;
	int fd;
};

static void take_fetch(void *arg)
{
	struct take *t = arg;
	int64_t t_fd;

	if (batch_ret_now(t->b, t->call, &t_fd) < 0 || t_fd < 0)
		return;
	t->fd = (int)syscall(SYS_pidfd_getfd, t->p->pidfd, (int)t_fd, 0);
}

/*
 * A descriptor of the target, made by a call in it, becomes ours alone: all in one batch, so that
 * it is closed there even if we are killed.
 */
static int take_uffd(struct dump_process *p, int *ret)
{
	static struct batch b;
	struct take t = { .p = p, .b = &b, .fd = -EBADF };
	int call, r;

	if (dump_pidfd(p) < 0)
		return neg_errno();
	batch_begin(&b, &p->threads[0].task);
	t.call = batch_try(&b, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | CR_UFFD_USER_MODE_ONLY);
	batch_pause(&b, take_fetch, &t);
	call = batch_try(&b, SYS_close, -1);
	batch_link(&b, t.call, call, 0);
	r = batch_run(&b);
	*ret = t.fd;
	if (r < 0)
		return r;
	if (batch_ret(&b, t.call) < 0)
		return (int)batch_ret(&b, t.call);
	return t.fd < 0 ? -EPERM : 0;
}

int mem_track_prepare(struct dump_ctx *ctx, struct dump_process *p)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = CR_UFFD_FEATURE_WP_ASYNC | CR_UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct cr_track *t = ctx->opts->track;
	int fd = -EBADF, r = -EPERM;

	if (!t || find(t, p->pid, p->start_ticks))
		return 0;
	/* A filter of its own may punish calls that it does not know. */
	if (p->threads[0].task.filters_suspended)
		r = take_uffd(p, &fd);
	if (r >= 0 && ioctl(fd, UFFDIO_API, &api) < 0)
		r = neg_errno();
	if (r >= 0)
		return add(t, (struct tracked){ p->pid, p->start_ticks, fd });
	close_fdp(&fd);
	/* A full table, for example. It is saved whole each time then. */
	log_warn("process %d (%s): its memory cannot be tracked (%s)", p->pid, p->comm, strerror(-r));
	return 0;
}

static int protect(const struct dump_process *p, int uffd, int pagemap_fd)
{
	for (size_t i = 0; i < p->n_vmas; i++) {
		const struct vma *v = &p->vmas[i];
		struct uffdio_register reg = {
			.range = { v->start, v->end - v->start },
			.mode = UFFDIO_REGISTER_MODE_WP,
		};
		int r;

		/* A discarded huge page leaves a mark as well, and reading it may find no other. */
		if (!mem_has_pages(v) || v->status & (VMA_VDSO | VMA_AIORING) ||
		    v->page_bytes > PAGE_BYTES)
			continue;
		/* What cannot be registered counts as written. */
		if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0) {
			log_debug("memory at 0x%lx-0x%lx cannot be tracked: %s", v->start, v->end,
				  strerror(errno));
			continue;
		}
		r = mem_scan_protect(pagemap_fd, v);
		if (r < 0)
			return log_err(r, "cannot track memory at 0x%lx-0x%lx", v->start, v->end);
	}
	return 0;
}

int mem_track_begin(struct dump_ctx *ctx, struct dump_process *p, int pagemap_fd)
{
	struct tracked *t;
	int r;

	if (ctx->opts->track) {
		t = find(ctx->opts->track, p->pid, p->start_ticks);
		return t ? protect(p, t->uffd, pagemap_fd) : 0;
	}
	r = write_file_at(p->proc_fd, "clear_refs", "4");
	return r < 0 ? log_err(r, "cannot write /proc/%d/clear_refs", p->pid) : 0;
}

void mem_track_name(struct dump_ctx *ctx, const char *run_id)
{
	if (ctx->opts->track)
		snprintf(ctx->opts->track->since, RUN_ID_BYTES, "%s", run_id);
}

bool mem_track_is_since(const struct dump_ctx *ctx, const char *run_id)
{
	/* Soft-dirty bits do not tell. */
	return !ctx->opts->track || (run_id && !strcmp(ctx->opts->track->since, run_id));
}

void mem_track_spoil(struct dump_ctx *ctx)
{
	if (ctx->opts->track)
		forget_all(ctx->opts->track);
	else
		log_warn("what was written to memory since the previous dump is not known any more: do not use that as the previous images again");
}

struct message {
	pid_t pid;			/* 0: the last one, without a descriptor */
	uint64_t start_ticks;
	char since[RUN_ID_BYTES];	/* of the last one */
};

static int send_one(int sock, struct message m, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { 0 };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = u.buf;
		msg.msg_controllen = sizeof(u.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(m) ? 0 : neg_errno();
}

int cr_track_send(const struct cr_track *t, int sock)
{
	struct message last = { 0 };
	int r = 0;

	memcpy(last.since, t->since, RUN_ID_BYTES);
	for (size_t i = 0; i < t->n && r >= 0; i++)
		r = send_one(sock, (struct message){ .pid = t->e[i].pid,
					      .start_ticks = t->e[i].start_ticks }, t->e[i].uffd);
	return r < 0 ? r : send_one(sock, last, -EBADF);
}

static int receive_one(int sock, struct message *m, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { 0 };
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf,
			      .msg_controllen = sizeof(u.buf) };
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	struct cmsghdr *c;

	*ret_fd = -EBADF;
	if (n < 0)
		return neg_errno();
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n == (ssize_t)sizeof(*m) && (m->pid > 0) == (*ret_fd >= 0) ? 0 : -EBADMSG;
}

int cr_track_receive(int sock, struct cr_track **ret)
{
	struct cr_track *t;
	int r = cr_track_new(&t);

	while (r >= 0) {
		struct message m;
		int fd;

		r = receive_one(sock, &m, &fd);
		if (r < 0)
			close_fdp(&fd);
		else if (!m.pid) {
			memcpy(t->since, m.since, RUN_ID_BYTES);
			t->since[RUN_ID_BYTES - 1] = '\0';
			break;
		} else
			r = t->n < PROCESSES_MAX ? add(t, (struct tracked){ m.pid, m.start_ticks, fd }) :
						   -E2BIG;
	}
	if (r < 0)
		cr_track_free(t);
	else
		*ret = t;
	return r;
}
