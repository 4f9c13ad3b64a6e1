/*
 * What waits in a pipe or fifo: size and bytes, and which of them are packets (pipe2(2), O_DIRECT).
 *
 *   dump     F_GETPIPE_SZ, FIONREAD, then tee(2) into a pipe of our own: nothing is taken out
 *   restore  F_SETPIPE_SZ, then one write of everything; each packet by one of its own
 *
 * A pipe counts buffers, not bytes: many small writes can fill it. tee(2) copies buffers, so
 * our own pipe gets the same size. A packet is a mark on a buffer, made when it was written: the
 * descriptors' flags say only what will be. It shows when a read ends there.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kind/kinds.h"

#define PACKET_MAX 4096u	/* what is longer is written as several */

struct own_pipe {
	int end[2];
};
#define OWN_PIPE_INIT { { -EBADF, -EBADF } }

static void own_pipe_done(struct own_pipe *p)
{
	close_fdp(&p->end[0]);
	close_fdp(&p->end[1]);
}
#define _cleanup_own_pipe_ _cleanup_(own_pipe_done)

static int own_pipe_make(struct own_pipe *p, int size)
{
	if (pipe2(p->end, O_CLOEXEC | O_NONBLOCK) < 0 || fcntl(p->end[1], F_SETPIPE_SZ, size) < 0)
		return neg_errno();
	return 0;
}

static int tee_all(int from, const struct own_pipe *to, uint32_t bytes)
{
	ssize_t n = tee(from, to->end[1], bytes, SPLICE_F_NONBLOCK);

	if (n < 0)
		return neg_errno();
	return (size_t)n == bytes ? 0 : -ENODATA;
}

/*
 * The next buffer of from, by way of a pipe of two buffers: the one is taken while it moves, so only
 * one does; then a byte follows it, which a read gets too unless a packet ends before. buf has room
 * for a byte more than is left.
 */
static int buffer_take(int from, const struct own_pipe *two, char *buf, uint32_t left,
		       PipeRunEntry *ret)
{
	ssize_t n, got;
	char byte = 0;

	if (write(two->end[1], &byte, 1) != 1)
		return -EIO;
	n = splice(from, NULL, two->end[1], NULL, left, SPLICE_F_NONBLOCK);
	if (n <= 0)
		return n < 0 ? neg_errno() : -ENODATA;
	if (read(two->end[0], &byte, 1) != 1 || write(two->end[1], &byte, 1) != 1)
		return -EIO;
	got = read(two->end[0], buf, (size_t)n + 1);
	ret->bytes = (uint32_t)n;
	ret->packet = got == n;
	if (ret->packet)
		return read(two->end[0], &byte, 1) == 1 ? 0 : -EIO;
	return got == n + 1 ? 0 : -EIO;
}

/* Adds it, to the run before if both are of a stream. */
static int run_add(struct dump_ctx *ctx, PipeDataEntry *e, const PipeRunEntry *one)
{
	PipeRunEntry *last = e->n_run ? e->run[e->n_run - 1] : NULL, **slot;

	if (last && !last->packet && !one->packet) {
		last->bytes += one->bytes;
		return 0;
	}
	slot = ARENA_PUSH(&ctx->arena, e->run, e->n_run);
	if (!slot)
		return -ENOMEM;
	*slot = arena_memdup(&ctx->arena, one, sizeof(*one));
	return *slot ? 0 : -ENOMEM;
}

/* All that is queued, in buf (room: a byte more), and the runs it consists of. */
static int copy_out(struct dump_ctx *ctx, int fd, PipeDataEntry *e, char *buf)
{
	_cleanup_own_pipe_ struct own_pipe all = OWN_PIPE_INIT, two = OWN_PIPE_INIT;
	uint32_t at = 0;
	int r;

	r = own_pipe_make(&all, (int)e->size);
	if (r >= 0)
		r = own_pipe_make(&two, 2 * (int)sysconf(_SC_PAGESIZE));
	if (r >= 0)
		r = tee_all(fd, &all, e->bytes);
	while (r >= 0 && at < e->bytes) {
		PipeRunEntry one = PIPE_RUN_ENTRY__INIT;

		r = buffer_take(all.end[0], &two, buf + at, e->bytes - at, &one);
		if (r >= 0)
			r = run_add(ctx, e, &one);
		at += one.bytes;
	}
	if (e->n_run == 1 && !e->run[0]->packet)
		e->n_run = 0;
	return r;
}

int pipe_data_dump(struct dump_ctx *ctx, const struct dump_file *f, struct image_writer *w)
{
	PipeDataEntry e = PIPE_DATA_ENTRY__INIT;
	int r, size, bytes;
	char *buf;

	size = fcntl(f->fd, F_GETPIPE_SZ);
	if (size < 0 || ioctl(f->fd, FIONREAD, &bytes) < 0)
		return log_err(neg_errno(), "cannot ask %s for its size", f->link);
	e.pipe_id = (uint32_t)f->st.st_ino;
	e.bytes = (uint32_t)bytes;
	e.has_size = true;
	e.size = (uint32_t)size;
	if (!w)
		return 0;
	buf = bytes ? arena_alloc(&ctx->arena, (size_t)bytes + 1) : NULL;
	if (bytes && !buf)
		return log_err(-ENOMEM, "%s", f->link);
	r = bytes ? copy_out(ctx, f->fd, &e, buf) : 0;
	if (r < 0)
		return log_err(r, "cannot copy the %d bytes queued in %s", bytes, f->link);
	r = image_put(w, &e.base);
	if (r >= 0 && bytes)
		r = image_put_raw(w, buf, (size_t)bytes);
	return r < 0 ? log_err(r, "cannot write the contents of %s", f->link) : 0;
}

static int runs_check(const PipeDataEntry *e)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < e->n_run; i++) {
		if (!e->run[i]->bytes || (e->run[i]->packet && e->run[i]->bytes > PACKET_MAX))
			return -EBADMSG;
		sum += e->run[i]->bytes;
	}
	return e->n_run && sum != e->bytes ? -EBADMSG : 0;
}

int pipe_data_load(struct restore_ctx *ctx, const struct image_type *type, struct map *ret)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	PipeDataEntry *e;
	int r;

	r = image_open_optional(ctx->store, type, &rd);
	if (r < 0)
		return log_err(r, "cannot open %s", type->file_fmt);
	while ((r = image_get(&rd, &ctx->arena, pipe_data_entry, &e)) > 0) {
		struct pipe_buf *d = ARENA_NEW(&ctx->arena, struct pipe_buf);
		const void *p;

		r = image_get_raw(&rd, e->bytes, &p);
		if (r < 0)
			return r;
		if (runs_check(e) < 0)
			return log_fail(-EBADMSG, "%s: pipe %u: its %zu packets are not its %u bytes",
					type->file_fmt, e->pipe_id, e->n_run, e->bytes);
		if (map_get(ret, e->pipe_id))
			return log_fail(-EBADMSG, "%s: pipe %u is there twice", type->file_fmt,
					e->pipe_id);
		/* The reader unmaps its file: the bytes are needed later. */
		if (d)
			*d = (struct pipe_buf){ e->pipe_id, e->bytes, e->has_size ? e->size : 0,
						arena_memdup(&ctx->arena, p, e->bytes), e->run,
						e->n_run };
		r = d && d->data ? map_put(ret, e->pipe_id, d) : -ENOMEM;
		if (r < 0)
			return log_err(r, "%s", type->file_fmt);
	}
	return r;
}

/*
 * A piece of stream that a packet follows. What is written would be added to its last buffer while
 * that has room, packet or not; tee(2) gives buffers that nothing is added to.
 */
static int put_closed(int wfd, const char *data, uint32_t bytes, int size)
{
	_cleanup_own_pipe_ struct own_pipe own = OWN_PIPE_INIT;
	ssize_t n;
	int r;

	r = own_pipe_make(&own, size);
	if (r >= 0)
		r = write_full(own.end[1], data, bytes);
	if (r < 0)
		return r;
	n = tee(own.end[0], wfd, bytes, SPLICE_F_NONBLOCK);
	if (n < 0)
		return neg_errno();
	return (size_t)n == bytes ? 0 : -ENOSPC;
}

/* flags: the descriptor's, without O_DIRECT. */
static int runs_put(int wfd, const struct pipe_buf *d, int flags, int size)
{
	const char *p = d->data;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < d->n_run; i++) {
		const PipeRunEntry *run = d->run[i];

		if (fcntl(wfd, F_SETFL, flags | (run->packet ? O_DIRECT : 0)) < 0)
			return neg_errno();
		if (!run->packet && i + 1 < d->n_run)
			r = put_closed(wfd, p, run->bytes, size);
		else
			r = write_full(wfd, p, run->bytes);
		p += run->bytes;
	}
	return r;
}

int pipe_data_fill(int wfd, const struct pipe_buf *d)
{
	int now, flags, r;

	if (!d)
		return 0;
	if (d->size > INT32_MAX)
		return log_fail(-EBADMSG, "a pipe of %u bytes", d->size);
	now = fcntl(wfd, F_GETPIPE_SZ);
	if (d->size && now != (int)d->size && fcntl(wfd, F_SETPIPE_SZ, (int)d->size) < 0) {
		r = neg_errno();
		if ((uint32_t)now < d->bytes)
			return log_err(r, "cannot make the pipe %u bytes large (see"
				       " /proc/sys/fs/pipe-max-size)", d->size);
		log_warn("the pipe's size comes back as %d instead of %u", now, d->size);
	}
	if (!d->bytes)
		return 0;
	flags = fcntl(wfd, F_GETFL);
	if (flags < 0 || fcntl(wfd, F_SETFL, flags | O_NONBLOCK) < 0)
		return log_err(neg_errno(), "pipe");
	now = fcntl(wfd, F_GETPIPE_SZ);
	if (d->n_run)
		r = runs_put(wfd, d, (flags | O_NONBLOCK) & ~O_DIRECT, now);
	else
		r = write_full(wfd, d->data, d->bytes);
	if (r < 0)
		return log_err(r, "cannot put %u bytes into a pipe of %d", d->bytes, now);
	return fcntl(wfd, F_SETFL, flags) < 0 ? log_err(neg_errno(), "pipe") : 0;
}
