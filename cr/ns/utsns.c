/*
 * The UTS namespace: host and domain name.
 *
 *   dump     a helper enters it and asks uname(2)
 *   restore  a helper makes it and sets both; owned by the initial user namespace
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/utsname.h>

#include "ns/state.h"

#define UTS_NAME_MAX	64u	/* __NEW_UTS_LEN */

struct ask_uts {
	int fd;
	struct utsname names;
};

static int ask_names(void *arg, struct ns_reply *reply)
{
	struct ask_uts *ask = arg;

	if (setns(ask->fd, CLONE_NEWUTS) < 0 || uname(&ask->names) < 0)
		return neg_errno();
	reply->data = &ask->names;
	reply->bytes = sizeof(ask->names);
	return 0;
}

int utsns_dump(struct dump_ctx *ctx, struct dump_process *p, uint32_t id)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	_cleanup_close_ int fd = openat(p->proc_fd, "ns/uts", O_RDONLY | O_CLOEXEC);
	struct ask_uts ask = { .fd = fd };
	UtsnsEntry e = UTSNS_ENTRY__INIT;
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open the uts namespace of %d", p->pid);
	r = ns_helper_start(&h, ask_names, &ask);
	if (r >= 0)
		r = ns_helper_read(&h, &ask.names, sizeof(ask.names));
	if (r < 0)
		return log_err(r, "cannot read the uts namespace of %d", p->pid);
	e.nodename = ask.names.nodename;
	e.domainname = ask.names.domainname;
	return image_write_one(ctx->store, &image_utsns, &e.base, id);
}

static int make_uts(void *arg, struct ns_reply *reply _unused_)
{
	const UtsnsEntry *e = arg;

	if (unshare(CLONE_NEWUTS) < 0 ||
	    sethostname(e->nodename, strlen(e->nodename)) < 0 ||
	    setdomainname(e->domainname, strlen(e->domainname)) < 0)
		return neg_errno();
	return 0;
}

int utsns_make(struct restore_ctx *ctx, const struct restore_process *p _unused_, uint32_t id, int *ret_fd)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	UtsnsEntry *e;
	int r = image_read_one(ctx->store, &ctx->arena, &image_utsns, utsns_entry, &e, id);

	if (r < 0)
		return r;
	if (strlen(e->nodename) > UTS_NAME_MAX || strlen(e->domainname) > UTS_NAME_MAX)
		return log_fail(-EBADMSG, "utsns-%u.img: a name is longer than %u bytes", id,
				UTS_NAME_MAX);
	r = ns_helper_start(&h, make_uts, e);
	if (r >= 0)
		r = ns_helper_open(&h, "ns/uts", ret_fd);
	if (r < 0)
		return log_err(r, "cannot make a uts namespace named %s", e->nodename);
	return 0;
}
