/*
 * Phase "commit": the manifest is completed with the clocks' last reading and handed to the
 * store; for tmpfs that builds the initramfs with the images and loads the kernel with it.
 */
#include <string.h>

#include "crkexec/clock.h"
#include "crkexec/phases.h"
#include "util/io.h"
#include "util/log.h"

int upgrade_commit(void *arg)
{
	struct upgrade *u = arg;
	_cleanup_free_ char *text = NULL;
	size_t bytes;
	int r;

	clock_read(&u->m->clock, u->tsc_khz);
	r = manifest_to_text(u->m, &text, &bytes);
	if (r < 0)
		return r;
	r = u->store.ops->commit(&u->store, text, bytes);
	return r < 0 ? r : upgrade_check_stop(u);
}
