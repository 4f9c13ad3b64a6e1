#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/undo.h"
#include "util/io.h"
#include "util/log.h"

int undo_open(struct undo_log *log, int dirfd, bool create)
{
	struct stat st;
	int fd = openat(dirfd, "undo", O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0),
			0600);

	if (fd < 0)
		return neg_errno();
	if (fstat(fd, &st) < 0 || st.st_size > UNDO_MAX_BYTES) {
		close(fd);
		return -EFBIG;
	}
	log->fd = fd;
	log->end = st.st_size;
	return 0;
}

void undo_close(struct undo_log *log)
{
	close_fdp(&log->fd);
	log->fd = -EBADF;
}

int undo_push(struct undo_log *log, const char *kind, const char *arg)
{
	_cleanup_free_ char *line = str_fmt("%s %s\n", kind, arg);
	int r;

	if (!line)
		return -ENOMEM;
	if (strchr(arg, '\n'))
		return log_fail(-EINVAL, "a line break in \"%s\"", arg);
	if (log->end + (off_t)strlen(line) > UNDO_MAX_BYTES)
		return -EFBIG;
	r = pwrite_full(log->fd, line, strlen(line), log->end);
	if (r < 0)
		return log_err(r, "cannot write down what to undo");
	log->end += (off_t)strlen(line);
	return 0;
}

static int undo_line(const char *line, const struct undo_kind *kinds)
{
	size_t n = strcspn(line, " ");

	for (; kinds->name; kinds++)
		if (strlen(kinds->name) == n && !strncmp(kinds->name, line, n) && line[n]) {
			int r = kinds->run(line + n + 1);

			if (r < 0)
				log_err(r, "could not %s %s", kinds->doing, line + n + 1);
			else
				log_info("undone: %s", line);
			return r;
		}
	log_warn("undo: no such step: \"%s\"", line);
	return 0;
}

int undo_forget(struct undo_log *log, off_t mark)
{
	if (ftruncate(log->fd, mark) < 0)
		return log_err(neg_errno(), "cannot shorten the list of what to undo");
	log->end = mark;
	return 0;
}

/* What could not be undone goes back into the file, in the order of its steps. */
static int undo_keep(struct undo_log *log, off_t mark, const char *lines, size_t n)
{
	int r = pwrite_full(log->fd, lines, n, mark);

	return r < 0 ? log_err(r, "cannot write down what is left to undo") :
	       undo_forget(log, mark + (off_t)n);
}

int undo_rewind(struct undo_log *log, off_t mark, const struct undo_kind *kinds)
{
	size_t all = (size_t)log->end, end = all, kept_at = all;
	_cleanup_free_ char *text = malloc(all + 1), *kept = malloc(all + 1);
	int r, first = 0;

	if (!text || !kept)
		return -ENOMEM;
	r = pread_full(log->fd, text, all, 0);
	if (r < 0)
		return log_err(r, "cannot read what to undo");
	while (end > (size_t)mark) {
		size_t begin = end;
		bool whole = text[end - 1] == '\n';

		text[end - whole] = '\0';
		do
			begin--;
		while (begin > 0 && text[begin - 1] != '\n');
		/* A line cut short by a full /run: its step was not begun. */
		r = whole ? undo_line(text + begin, kinds) : 0;
		if (r < 0) {
			kept_at -= end - begin;
			memcpy(kept + kept_at, text + begin, end - begin);
			kept[kept_at + end - begin - 1] = '\n';
			if (!first)
				first = r;
		}
		end = begin;
		/* A kill from here on has less to repeat. */
		if (!first && undo_forget(log, (off_t)end) < 0)
			first = -EIO;
	}
	if (kept_at < all) {
		r = undo_keep(log, mark, kept + kept_at, all - kept_at);
		return r < 0 ? r : first;
	}
	return first;
}

int undo_note_phase(int dirfd, const char *name)
{
	_cleanup_close_ int fd = openat(dirfd, "phase", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
					O_NOFOLLOW, 0600);

	return fd < 0 ? neg_errno() : write_full(fd, name, strlen(name));
}
