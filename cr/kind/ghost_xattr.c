/*
 * Extended attributes of files without a name: access control lists, file capabilities, labels, user.*.
 *
 *   dump     listxattr(2), getxattr(2) through /proc/self/fd, for a descriptor may be an O_PATH one
 *   restore  setxattr(2), after owner and mode, which change some of them
 *
 * A file that comes back on another kind of file system (memory instead of a read-only one) may not
 * take all of them: a warning.
 */
#include <string.h>
#include <sys/xattr.h>

#include "kind/kinds.h"
#include "kind/ghost_restore.h"

/* A hash over the inode's number, which is another one then. */
#define XATTR_EVM "security.evm"

static int xattr_put(struct dump_ctx *ctx, const char *self, const char *name, GhostFileEntry *e)
{
	XattrEntry *x = ARENA_MSG(&ctx->arena, XattrEntry, xattr_entry), **at;
	_cleanup_free_ char *value = malloc(XATTR_SIZE_MAX);
	ssize_t n;

	if (!x || !value)
		return -ENOMEM;
	n = getxattr(self, name, value, XATTR_SIZE_MAX);
	if (n < 0)
		return errno == ENODATA ? 0 : neg_errno();
	x->name = arena_strdup(&ctx->arena, name);
	x->value.len = (size_t)n;
	x->value.data = arena_memdup(&ctx->arena, value, (size_t)n);
	at = ARENA_PUSH(&ctx->arena, e->xattrs, e->n_xattrs);
	if (!x->name || (n && !x->value.data) || !at)
		return -ENOMEM;
	*at = x;
	return 0;
}

int ghost_xattrs_dump(struct dump_ctx *ctx, const struct dump_file *f, GhostFileEntry *e)
{
	_cleanup_free_ char *names = malloc(XATTR_LIST_MAX);
	char self[48];
	ssize_t n;
	int r;

	if (!names)
		return -ENOMEM;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	n = listxattr(self, names, XATTR_LIST_MAX);
	if (n < 0)
		return errno == ENOTSUP ? 0 : neg_errno();
	for (char *name = names; name < names + n; name += strlen(name) + 1) {
		if (!strcmp(name, XATTR_EVM))
			continue;
		r = xattr_put(ctx, self, name, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void ghost_xattrs_set(const RegFileEntry *e, const GhostFileEntry *g, int fd)
{
	char self[48];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < g->n_xattrs; i++)
		if (setxattr(self, g->xattrs[i]->name, g->xattrs[i]->value.data,
			     g->xattrs[i]->value.len, 0) < 0)
			log_warn("%s: cannot set the extended attribute %s (error %d)", e->name,
				 g->xattrs[i]->name, errno);
}
