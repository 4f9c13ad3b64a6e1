/* What the makers of System V objects share. */
#ifndef TESTS_LIVE_SYSV_COMMON_H
#define TESTS_LIVE_SYSV_COMMON_H

#include "maker.h"

#include <sys/ipc.h>

/* The runner removes the object (shm, sem, msg) if we end without having done so. */
__attribute__((unused)) static int sysv_made(const char *kind, int id)
{
	MAKER_MUST(id >= 0);
	maker_log("ipc %s %d", kind, id);
	return id;
}

/* Takes an object away from its maker: rights and owner are others'. */
__attribute__((unused)) static void sysv_give(struct ipc_perm *p, unsigned short mode)
{
	p->uid = 1234;
	p->gid = 4321;
	p->mode = mode;
}

__attribute__((unused)) static void sysv_given(const struct ipc_perm *p, key_t key,
					       unsigned short mode)
{
	MAKER_SAME("key", p->__key, key);
	MAKER_SAME("mode", p->mode, mode);
	MAKER_SAME("owner", p->uid, 1234);
	MAKER_SAME("group", p->gid, 4321);
	MAKER_SAME("creator", p->cuid, 0);
}

#endif
