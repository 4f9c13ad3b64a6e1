/*
 * Private directories of units in /tmp and /var/tmp bear a boot id in their names, and
 * systemd-tmpfiles leaves alone those of the present boot only. During the boot settings in /run held it
 * back from the restored units' (initramfs/early_outcome.c, which also says what else they list);
 * now the directories get the new boot's id and those settings go. A process that has the directory
 * mounted sees nothing of it: a mount follows the directory, not its name.
 */
#include "systemd-units/adopt.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "crkexec/manifest.h"
#include "util/io.h"
#include "util/log.h"

#define TMPFILES	"/run/tmpfiles.d"
#define PRIVATE		"/systemd-private-"
#define ID_CHARS	32

static int read_boot_id(char *id)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL);

	if (r < 0)
		return log_err(r, "cannot read the boot id");
	for (const char *s = text; *s && *s != '\n' && n < ID_CHARS; s++)
		if (*s != '-')
			id[n++] = *s;
	id[n] = '\0';
	return n == ID_CHARS ? 0 : log_fail(-EBADMSG, "the boot id is \"%s\"", text);
}

/* "/tmp/systemd-private-OLDID-x.service-Ab12Cd"; other paths are none of ours. */
int adopt_rename_private(const char *path, const char *boot_id)
{
	_cleanup_free_ char *to = NULL;
	const char *old = strstr(path, PRIVATE);

	old = old ? old + strlen(PRIVATE) : NULL;
	if (!old || strchr(old, '/') || strspn(old, "0123456789abcdef") != ID_CHARS ||
	    old[ID_CHARS] != '-')
		return 0;
	to = str_fmt("%.*s%s%s", (int)(old - path), path, boot_id, old + ID_CHARS);
	if (!to)
		return -ENOMEM;
	if (!strcmp(to, path) || renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	/* Its unit was stopped meanwhile. */
	return errno == ENOENT ? 0 : log_err(neg_errno(), "cannot rename %s to %s", path, to);
}

static void remove_setting(const char *name)
{
	_cleanup_free_ char *path = str_fmt(TMPFILES "/%s", name), *text = NULL;

	if (path && read_file_at(AT_FDCWD, path, 1u << 20, &text, NULL) == 0 &&
	    str_starts(text, CRKEXEC_TMPFILES_MARK) && unlink(path) < 0)
		log_warn("cannot remove %s: %m", path);
}

void adopt_tmp(void)
{
	static const char *const names[] = { "crkexec.conf", "systemd-tmp.conf", "tmp.conf" };
	_cleanup_free_ char *text = NULL;
	char id[ID_CHARS + 1], *line, *rest;
	int r = read_file_at(AT_FDCWD, TMPFILES "/crkexec.conf", 1u << 20, &text, NULL);

	if (r == -ENOENT)
		return;
	if (r == 0)
		r = read_boot_id(id);
	for (line = r < 0 ? NULL : strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (str_starts(line, "x ") && adopt_rename_private(line + 2, id) < 0)
			r = -EIO;
	if (r < 0) {
		log_warn("private directories keep the old boot's id, and " TMPFILES "/crkexec.conf stays");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		remove_setting(names[i]);
	rmdir(TMPFILES);
}
