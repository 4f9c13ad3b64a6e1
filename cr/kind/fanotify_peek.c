/* What fdinfo does not tell of a fanotify group, from the kernel's own structure (kernel/peek.h). */
#include <unistd.h>

#include "kernel/peek.h"
#include "kind/fanotify.h"

/* In older kernels (6.12) a group has no namespace: made in another than ours it is unprivileged. */
static int userns_is_other(struct peek *pk, uint64_t group, bool *ret)
{
	uint64_t theirs, ours = 0, at;
	int r = peek_member(pk, group, "fsnotify_group", "user_ns", 8, &theirs);

	*ret = false;
	if (r == -ENODATA)
		return 0;
	if (r >= 0)
		r = peek_task(pk, getpid(), &at);
	if (r >= 0)
		r = peek_member(pk, at, "task_struct", "cred", 8, &at);
	if (r >= 0)
		r = peek_member(pk, at, "cred", "user_ns", 8, &ours);
	*ret = theirs != ours;
	return r;
}

static int list_is_used(struct peek *pk, uint64_t addr, const char *structure, const char *name,
			bool *ret)
{
	uint64_t head, first = 0;
	int r = peek_inside(pk, addr, structure, name, &head);

	if (r >= 0)
		r = peek_word(pk, head, &first);
	*ret = r >= 0 && first != head;
	return r;
}

int fanotify_peek(struct dump_ctx *ctx, int fd, struct fanotify_group *ret)
{
	uint64_t group, data, flags = 0;
	struct peek *pk;
	int r = dump_peek_private(ctx, fd, &pk, &group);

	if (r >= 0)
		r = peek_inside(pk, group, "fsnotify_group", "fanotify_data", &data);
	if (r >= 0)
		r = peek_member(pk, data, "fanotify_group_private_data", "flags", 4, &flags);
	if (r >= 0)
		r = userns_is_other(pk, group, &ret->other_userns);
	if (r >= 0)
		r = list_is_used(pk, data, "fanotify_group_private_data", "access_list",
				 &ret->unanswered);
	ret->flags = (uint32_t)flags;
	return r;
}
