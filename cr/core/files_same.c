/*
 * Which descriptors are one open file (dup(2), fork(2), SCM_RIGHTS).
 *
 * Files with equal inode, mount, flags and position are compared by kcmp(2), whose order keeps each group sorted. All
 * epolls, timerfds, signalfds ... share one inode, so their group can be large, and O(n log n) calls were a tenth of the
 * time that a process with 1,000 mixed descriptors stands still. So a group that has grown is sorted anew, by where the
 * kernel has each struct file, which has to be asked for once each. Where its structures cannot be read it stays.
 */
#include <linux/kcmp.h>
#include <stdlib.h>
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

#define MANY	8u	/* fewer are found by less calls than it takes to look into the kernel */

/* Files of equal outward marks, ascending: in kcmp's order, or by address. */
struct file_set {
	struct file_node *nodes;
	size_t n;
	bool by_address, by_kcmp;	/* by_kcmp: for good */
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

	return r < 0 || n->addr ? r : -EBADF;
}

/* As kcmp does. 0: one and the same; 1: a comes before b; 2: after it. */
static int order_of(const struct file_node *a, const struct file_node *b)
{
	return a->addr == b->addr ? 0 : a->addr < b->addr ? 1 : 2;
}

static int by_address(const void *a, const void *b)
{
	int c = order_of(a, b);

	return c == 1 ? -1 : c;
}

/* They are different files: if that is not what the addresses say, they cannot be understood. */
static bool addresses_differ(struct dump_ctx *ctx, struct file_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (address_get(ctx, &set->nodes[i]) < 0)
			return false;
	qsort(set->nodes, set->n, sizeof(*set->nodes), by_address);
	for (size_t i = 1; i < set->n; i++)
		if (set->nodes[i].addr == set->nodes[i - 1].addr)
			return false;
	return true;
}

static int sort_anew(struct dump_ctx *ctx, struct file_set *set)
{
	struct file_node *old = arena_memdup(&ctx->arena, set->nodes, set->n * sizeof(*old));

	if (!old)
		return log_err(-ENOMEM, "cannot remember it");
	set->by_address = ctx->peek && addresses_differ(ctx, set);
	set->by_kcmp = !set->by_address;
	if (set->by_kcmp)
		memcpy(set->nodes, old, set->n * sizeof(*old));
	return 0;
}

static int compare(const struct file_set *set, const struct file_node *a, const struct file_node *b)
{
	long c;

	if (set->by_address)
		return order_of(a, b);
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
	if (ret->set->n >= MANY && !ret->set->by_address && !ret->set->by_kcmp) {
		r = sort_anew(ctx, ret->set);
		if (r < 0)
			return r;
	}
	r = ret->set->by_address ? address_get(ctx, &n) : 0;
	if (r < 0)
		return log_err(r, "cannot find it in the kernel's table");
	hi = ret->set->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = compare(ret->set, &n, &ret->set->nodes[mid]);

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
