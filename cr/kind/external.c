/*
 * Files that the operator declares to be somebody else's: --external file[MNT:INODE] on dump,
 * --inherit-fd fd[N]:KEY on restore.
 *
 *   dump     a REG entry with ext set and the key as its name; nothing else is saved
 *   restore  reg.c duplicates the descriptor that was handed in under that key
 *
 * Mount id and inode in the key are hexadecimal, as CRIU writes them.
 */
#include <fcntl.h>
#include <string.h>

#include "kind/kinds.h"

const struct cr_external *external_find(const struct cr_opts *opts, const char *key)
{
	for (size_t i = 0; i < opts->n_externals; i++)
		if (!strcmp(opts->externals[i].key, key))
			return &opts->externals[i];
	return NULL;
}

int external_dup(const struct cr_opts *opts, const char *key, int *ret_fd)
{
	const struct cr_external *x = external_find(opts, key);
	int fd;

	if (!x || x->fd < 0)
		return -ENOENT;
	fd = fcntl(x->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

static void external_key(const struct dump_file *f, char *key, size_t room)
{
	snprintf(key, room, "file[%x:%llx]", (unsigned int)f->mnt_id,
		 (unsigned long long)f->st.st_ino);
}

static bool external_match(const struct dump_file *f)
{
	const struct cr_opts *opts = f->owner->ctx->opts;
	char key[64];

	if (!opts->n_externals || f->mnt_id < 0)
		return false;
	external_key(f, key, sizeof(key));
	return external_find(opts, key);
}

static int external_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	RegFileEntry *e = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);
	char key[64];

	external_key(f, key, sizeof(key));
	if (e)
		e->name = arena_strdup(&ctx->arena, key);
	if (!e || !e->name)
		return log_err(-ENOMEM, "%s", f->link);
	f->fe->reg = e;
	e->id = f->id;
	e->flags = f->flags;
	e->pos = f->pos;
	e->has_ext = true;
	e->ext = true;
	e->has_mode = true;
	e->mode = f->st.st_mode;
	return dump_fown(ctx, f, &e->fown);
}

const struct kind kind_external = {
	.name = "external file",
	.type = FD_TYPES__REG,
	.match = external_match,
	.dump = external_dump,
};
