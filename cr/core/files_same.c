/*
 * Which descriptors are one open file (dup(2), fork(2), SCM_RIGHTS).
 *
 * Files with equal inode, mount, flags and position are compared: by where the kernel has its struct file, or, where
 * its structures cannot be read, by kcmp(2). Either gives an order that keeps each group sorted. All epolls, timerfds,
 * signalfds ... share one inode, so their group can be large, and kcmp tells only how two compare: O(n log n) calls,
 * which for 1,000 mixed descriptors were a tenth of the time that their process stands still.
 */
#include <linux/kcmp.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/files_dump.h"

/* Where the file is found. */
struct file_node {
	struct dump_file *f;
	pid_t pid;
	int fd;
	uint64_t addr;		/* of its struct file; 0: not asked for */
};

/* Files of equal outward marks, ascending in the kernel's order. */
struct file_set {
	struct file_node *nodes;
	size_t n;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

/* The file's identity as far as the head of fdinfo tells it. */
static uint64_t key_of(const struct dump_fd *d)
{
	uint64_t h = mix(mix(1, d->ino), (uint64_t)d->mnt_id), id;

	/* Of the anonymous inodes, which are all one, eventfds have numbers. */
	if (!fdinfo_u64(d->fdinfo, "eventfd-id", 10, &id))
		h = mix(h, id);
	return mix(mix(h, d->flags), d->pos);
}

static int set_get(struct dump_ctx *ctx, uint64_t key, struct file_set **ret)
{
	struct file_set *set = map_get(&ctx->files_by_key, key);
	int r;

	if (!set) {
		set = ARENA_NEW(&ctx->arena, struct file_set);
		if (!set)
			return -ENOMEM;
		r = map_put(&ctx->files_by_key, key, set);
		if (r < 0)
			return r;
	}
	*ret = set;
	return 0;
}

void files_same_begin(struct dump_ctx *ctx, const struct dump_process *p)
{
	struct files_table *t = &dump_files_state(ctx)->table;

	/* Once and for all: sorted by one order, nothing is found by another. */
	if (!t->order)
		t->order = ctx->peek ? ORDER_ADDRESS : ORDER_KCMP;
	t->tid = p ? p->threads[0].task.tid : 0;
	t->at = 0;
}

/* A table moves when it grows: only that of the process whose files are dumped just now stands still. */
static int address_read(struct dump_ctx *ctx, pid_t pid, int fd, uint64_t *ret)
{
	struct files_table *t = &dump_files_state(ctx)->table;
	int r = 0;

	if (pid != t->tid)
		return peek_file(ctx->peek, pid, fd, ret);
	if (!t->at)
		r = peek_files(ctx->peek, pid, &t->at, &t->n);
	*ret = 0;
	if (r < 0 || (uint64_t)fd >= t->n)
		return r;
	return peek_word(ctx->peek, t->at + (uint64_t)fd * 8, ret);
}

static int address_get(struct dump_ctx *ctx, struct file_node *n)
{
	int r = n->addr ? 0 : address_read(ctx, n->pid, n->fd, &n->addr);

	return r < 0 || !n->addr ? log_err(r < 0 ? r : -EIO, "cannot find fd %d of process %d in the kernel's table",
					   n->fd, n->pid) : 0;
}

/* 0: one and the same; 1: a comes before b; 2: after it. */
static int compare(struct dump_ctx *ctx, struct file_node *a, struct file_node *b)
{
	long c;
	int r;

	if (dump_files_state(ctx)->table.order == ORDER_ADDRESS) {
		r = address_get(ctx, a);
		if (r >= 0)
			r = address_get(ctx, b);
		if (r < 0)
			return r;
		return a->addr == b->addr ? 0 : a->addr < b->addr ? 1 : 2;
	}
	c = syscall(SYS_kcmp, a->pid, b->pid, KCMP_FILE, (unsigned long)a->fd, (unsigned long)b->fd);
	if (c < 0)
		return log_err(neg_errno(), "kcmp with fd %d of process %d", b->fd, b->pid);
	return c <= 2 ? (int)c : log_fail(-EIO, "kcmp gives no order for fd %d", a->fd);
}

int files_same_find(struct dump_ctx *ctx, const struct dump_fd *d, pid_t pid, struct file_place *ret)
{
	struct file_node n = { .pid = pid, .fd = d->t_fd };
	size_t lo = 0, hi;
	int r;

	*ret = (struct file_place){ 0 };
	r = set_get(ctx, key_of(d), &ret->set);
	if (r < 0)
		return log_err(r, "cannot remember it");
	hi = ret->set->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = compare(ctx, &n, &ret->set->nodes[mid]);

		if (c < 0)
			return c;
		if (!c) {
			ret->known = ret->set->nodes[mid].f;
			return 1;
		}
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	ret->at = lo;
	ret->addr = n.addr;
	return 0;
}

int files_same_add(struct dump_ctx *ctx, const struct file_place *place, const struct dump_fd *d, pid_t pid,
		   struct dump_file *f)
{
	struct file_set *set = place->set;
	size_t at = place->at;

	if (!ARENA_PUSH(&ctx->arena, set->nodes, set->n))
		return log_err(-ENOMEM, "cannot remember it");
	memmove(&set->nodes[at + 1], &set->nodes[at], (set->n - 1 - at) * sizeof(*set->nodes));
	set->nodes[at] = (struct file_node){ f, pid, d->t_fd, place->addr };
	return 0;
}
