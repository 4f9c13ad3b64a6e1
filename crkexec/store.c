/* Choosing a store, and what all stores need: the initramfs. */
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>

#include "crkexec/load.h"
#include "crkexec/paths.h"
#include "crkexec/upgrade.h"
#include "initramfs/build.h"
#include "util/io.h"
#include "util/log.h"

static int store_try(struct upgrade *u, const struct store_ops *ops,
		     const struct store_need *needs, size_t n, char **ret_why)
{
	u->store = (struct store){ .ops = ops, .u = u };
	return ops->plan(&u->store, needs, n, ret_why);
}

/* From the table's row first on; refused: why those before it are out, or NULL (taken). */
static int choose_from(struct upgrade *u, const struct store_need *needs, size_t n, size_t first,
		       char *refused_before)
{
	_cleanup_free_ char *refused = refused_before;
	int r = -EOPNOTSUPP;

	for (size_t i = first; store_table[i]; i++) {
		const struct store_ops *ops = store_table[i];
		_cleanup_free_ char *why = NULL, *before = take_ptr(refused);

		if (u->opt->store != CHOOSE_AUTO &&
		    (u->opt->store == CHOOSE_PMEM) != (ops->kind == STORE_PMEM)) {
			refused = take_ptr(before);
			continue;
		}
		r = store_try(u, ops, needs, n, &why);
		if (r == 0) {
			u->store.why = u->opt->store != CHOOSE_AUTO ? strdup("asked for") :
				       before ? strdup(before) : strdup("first choice");
			u->m->store = ops->kind;
			return u->store.why ? 0 : -ENOMEM;
		}
		store_done(&u->store);
		refused = str_fmt("%s%s%s: %s", before ? before : "", before ? "; " : "",
				  ops->name, why ? why : strerror(-r));
	}
	return upgrade_problem(u, r, NULL, "free memory, or upgrade fewer services at once",
			       "no store for the images: %s",
			       refused ? refused : "this crkexec was built without it");
}

int store_choose(struct upgrade *u, const struct store_need *needs, size_t n)
{
	return choose_from(u, needs, n, 0, NULL);
}

int store_prepare(struct upgrade *u, const struct store_need *needs, size_t n)
{
	off_t mark = undo_mark(&u->undo);
	const struct store_ops *ops = u->store.ops;
	int r = ops->prepare(&u->store, needs, n), r2;
	size_t row = 0;
	char *why;

	while (store_table[row] && store_table[row] != ops)
		row++;
	if (r == 0 || u->opt->store != CHOOSE_AUTO || !store_table[row] || !store_table[row + 1])
		return r;
	why = str_fmt("%s: %s", ops->name, *log_first_error() ? log_first_error() : strerror(-r));
	store_done(&u->store);
	r2 = undo_rewind(&u->undo, mark, undo_kinds);
	if (r2 < 0 || !why) {
		free(why);
		return r2 < 0 ? r2 : -ENOMEM;
	}
	log_first_error_forget();
	log_warn("trying another store: %s", why);
	r = choose_from(u, needs, n, row + 1, why);
	return r < 0 ? r : u->store.ops->prepare(&u->store, needs, n);
}

void store_done(struct store *s)
{
	if (s->ops && s->ops->done)
		s->ops->done(s);
	free(s->why);
	*s = (struct store){ 0 };
}

/* The early program and its modules: made once, the images come behind it in the blackout. */
static int build_own(struct upgrade *u)
{
	_cleanup_close_ int out = memfd_create("crkexec-early", MFD_CLOEXEC);
	_cleanup_free_ char *early = lib_path("crkexec-early");
	struct initramfs_spec spec = {
		.early_path = early, .images_fd = -1, .base_fd = -1,
		.modules = (const char *const *)u->module_paths.v, .n_modules = u->module_paths.n,
		.firmware = (const char *const *)u->firmware_paths.v, .n_firmware = u->firmware_paths.n,
	};
	int r;

	if (out < 0)
		return log_err(neg_errno(), "cannot make a memory file");
	if (!early)
		return -ENOMEM;
	r = initramfs_build(&spec, out);
	return r < 0 ? r : take_fd(&out);
}

int store_build_initramfs(struct upgrade *u, const char *manifest, size_t manifest_bytes,
			  int images_fd, int *ret_fd)
{
	_cleanup_close_ int out = memfd_create("crkexec-initramfs", MFD_CLOEXEC);
	struct initramfs_spec spec = {
		.manifest = manifest, .manifest_bytes = manifest_bytes, .images_fd = images_fd,
	};
	int r;

	if (out < 0)
		return log_err(neg_errno(), "cannot make a memory file");
	if (u->initrd_fd < 0 && u->target.own_initramfs) {
		u->initrd_fd = build_own(u);
		if (u->initrd_fd < 0)
			return u->initrd_fd;
	} else if (u->initrd_fd < 0) {
		u->initrd_fd = open(u->target.initrd, O_RDONLY | O_CLOEXEC);
		if (u->initrd_fd < 0)
			return log_err(neg_errno(), "cannot open %s", u->target.initrd);
	}
	spec.base_fd = u->initrd_fd;
	r = initramfs_build(&spec, out);
	return r < 0 ? r : kexec_readonly(&out, ret_fd);
}
