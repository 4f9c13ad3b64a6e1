/* How crkexec calls the engine: the same options for the check and for the dump. */
#ifndef CRKEXEC_DUMPOPTS_H
#define CRKEXEC_DUMPOPTS_H

#include "cr/cr.h"
#include "crkexec/upgrade.h"

struct dump_setup {
	struct cr_opts opts;
	int work_fd;
	struct cr_external *externals;	/* journald streams */
	char **keys;
	size_t n_keys;
};

/* Of unit i; the streams come from the unit's manifest, if they are known yet. */
int dump_setup_init(struct dump_setup *s, struct upgrade *u, size_t i) _must_check_;
void dump_setup_done(struct dump_setup *s);

#endif
