/*
 * What waits in a pipe or fifo: size and bytes.
 *
 *   dump     F_GETPIPE_SZ, FIONREAD, then tee(2) into a pipe of our own: nothing is taken out
 *   restore  F_SETPIPE_SZ, then one write of everything
 *
 * A pipe counts buffers, not bytes: many small writes can fill it. tee(2) copies buffers, so
 * our own pipe gets the same size.
 */
#include <fcntl.h>
#include <sys/ioctl.h>

#include "kind/kinds.h"

static int tee_all(int fd, int size, uint32_t bytes, void *buf)
{
	_cleanup_close_ int r_end = -EBADF, w_end = -EBADF;
	int p[2];
	ssize_t n;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return neg_errno();
	r_end = p[0];
	w_end = p[1];
	if (fcntl(w_end, F_SETPIPE_SZ, size) < 0)
		return neg_errno();
	n = tee(fd, w_end, bytes, SPLICE_F_NONBLOCK);
	if (n < 0)
		return neg_errno();
	if ((size_t)n != bytes)
		return -ENODATA;
	return read_full(r_end, buf, bytes);
}

int pipe_data_dump(struct dump_ctx *ctx, const struct dump_file *f, struct image_writer *w)
{
	PipeDataEntry e = PIPE_DATA_ENTRY__INIT;
	int r, size, bytes;
	void *buf;

	size = fcntl(f->fd, F_GETPIPE_SZ);
	if (size < 0 || ioctl(f->fd, FIONREAD, &bytes) < 0)
		return log_err(neg_errno(), "cannot ask %s for its size", f->link);
	e.pipe_id = (uint32_t)f->st.st_ino;
	e.bytes = (uint32_t)bytes;
	e.has_size = true;
	e.size = (uint32_t)size;
	if (!w)
		return 0;
	buf = bytes ? arena_alloc(&ctx->arena, (size_t)bytes) : NULL;
	if (bytes && !buf)
		return log_err(-ENOMEM, "%s", f->link);
	r = bytes ? tee_all(f->fd, size, e.bytes, buf) : 0;
	if (r < 0)
		return log_err(r, "cannot copy the %d bytes queued in %s", bytes, f->link);
	r = image_put(w, &e.base);
	if (r >= 0 && bytes)
		r = image_put_raw(w, buf, (size_t)bytes);
	return r < 0 ? log_err(r, "cannot write the contents of %s", f->link) : 0;
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
		if (map_get(ret, e->pipe_id))
			return log_fail(-EBADMSG, "%s: pipe %u is there twice", type->file_fmt,
					e->pipe_id);
		/* The reader unmaps its file: the bytes are needed later. */
		if (d)
			*d = (struct pipe_buf){ e->pipe_id, e->bytes, e->has_size ? e->size : 0,
						arena_memdup(&ctx->arena, p, e->bytes) };
		r = d && d->data ? map_put(ret, e->pipe_id, d) : -ENOMEM;
		if (r < 0)
			return log_err(r, "%s", type->file_fmt);
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
	r = write_full(wfd, d->data, d->bytes);
	if (r < 0)
		return log_err(r, "cannot put %u bytes into a pipe of %d", d->bytes, now);
	return fcntl(wfd, F_SETFL, flags) < 0 ? log_err(neg_errno(), "pipe") : 0;
}
