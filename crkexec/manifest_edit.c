/* Growing a manifest, adding it up, and keeping it in a file. */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/manifest.h"
#include "util/io.h"
#include "util/log.h"
#include "util/macro.h"

int manifest_save(const struct manifest *m, int dirfd, const char *path)
{
	_cleanup_free_ char *text = NULL, *tmp = NULL;
	_cleanup_close_ int fd = -EBADF;
	size_t bytes;
	int r = manifest_to_text(m, &text, &bytes);

	if (r < 0)
		return r;
	tmp = str_fmt("%s.new", path);
	if (!tmp)
		return -ENOMEM;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return log_err(neg_errno(), "cannot write %s", tmp);
	r = write_full(fd, text, bytes);
	if (r == 0 && (fchmod(fd, 0600) < 0 || fsync(fd) < 0 ||
		       renameat(dirfd, tmp, dirfd, path) < 0))
		r = neg_errno();
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return log_err(r, "cannot write %s", path);
	}
	return 0;
}

uint64_t manifest_pre_dump_bytes(const struct manifest_unit *u)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < u->n_trees; i++)
		bytes += u->trees[i].pre_dump_bytes;
	return bytes;
}

int manifest_add_phase(struct manifest *m, const char *name, uint64_t begin_usec,
		       uint64_t end_usec)
{
	struct manifest_phase *p = reallocarray(m->phases, m->n_phases + 1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	m->phases = p;
	p += m->n_phases;
	p->name = strdup(name);
	if (!p->name)
		return -ENOMEM;
	p->begin_usec = begin_usec;
	p->end_usec = end_usec;
	m->n_phases++;
	return 0;
}

int manifest_add_warning(struct manifest *m, const char *fmt, ...)
{
	char **w = reallocarray(m->warnings, m->n_warnings + 1, sizeof(*w));
	char *text;
	va_list ap;
	int n;

	if (!w)
		return -ENOMEM;
	m->warnings = w;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	w[m->n_warnings++] = text;
	return 0;
}
