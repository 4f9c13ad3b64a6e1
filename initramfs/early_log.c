/*
 * Where the early program speaks: everything to /run/crkexec/early.log, the lines an operator
 * wants on a console also to /dev/kmsg, where the journal finds them again.
 *
 * The trap: the kernel drops lines of /dev/kmsg beyond ten in five seconds per opener unless
 * printk.devkmsg=on; each line opens it anew.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>

#include "util/io.h"
#include "util/log.h"

int early_log_open(struct early *e)
{
	/* 0700: images and manifests of services are nobody else's business. */
	if (mkdir(CRKEXEC_RUN_DIR, 0700) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make " CRKEXEC_RUN_DIR);
	e->log_fd = open(CRKEXEC_RUN_DIR "/early.log",
			 O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (e->log_fd < 0)
		return log_err(neg_errno(), "cannot open " CRKEXEC_RUN_DIR "/early.log");
	log_init(LOGLEVEL_INFO, e->log_fd);
	return 0;
}

void early_say(const char *fmt, ...)
{
	_cleanup_close_ int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[EARLY_REASON_BYTES + 64];
	va_list ap;
	size_t n;

	n = snprintf(line, sizeof(line), "<5>crkexec: ");
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	for (char *p = line; *p; p++)
		if (*p == '\n')
			*p = ' ';
	log_info("%s", line + n);
	strcat(line, "\n");
	/* No console, no message: nothing else to tell. */
	if (fd >= 0 && write(fd, line, strlen(line)) < 0)
		return;
}

void early_die(struct early *e, const char *why)
{
	int seconds = e->cmdline.panic_seconds;

	early_say("cannot boot: %s", why);
	/* panic=0 would wait for ever; nobody may be there to look. */
	if (seconds == 0)
		seconds = 30;
	if (seconds > 0) {
		early_say("rebooting in %d s; give panic=SECONDS to change that", seconds);
		for (int left = seconds; left > 0;)
			left = sleep(left);
	}
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
