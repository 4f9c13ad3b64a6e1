/*
 * Drop-ins for one boot. A restored unit's start job runs the helper that hands its processes
 * to systemd; everything else of the unit stays in force, for the sandbox and limits of later
 * starts come from it.
 *
 * The traps: ExecStart= splits, unescapes and expands, so the unit's name is the specifier
 * %n; with "+" credentials and sandbox do not apply but RootDirectory= does, and the helper
 * is not there; a start time-out would kill the service, not only the helper.
 */
#include "systemd-units/generator.h"

#include <string.h>

#include "util/io.h"

enum adoption adoption_from_text(const char *text)
{
	if (!text)
		return ADOPTION_NONE;
	return str_starts(text, "cold") ? ADOPTION_COLD : ADOPTION_DONE;
}

bool generator_wants(const struct manifest_unit *u, enum adoption a)
{
	if (u->outcome != OUTCOME_RESTORED && u->outcome != OUTCOME_ADOPTED)
		return false;
	if (a == ADOPTION_COLD)
		return false;
	/*
	 * Going back to Type=dbus stops the unit: nobody owns its bus name, the connection
	 * ended with the old kernel. It stays as it is until the next boot.
	 */
	if (!strcmp(u->type, "dbus"))
		return true;
	return a == ADOPTION_NONE && u->outcome == OUTCOME_RESTORED;
}

static void put_escaped(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '%')
			fputc('%', f);
		fputc(*s, f);
	}
}

void generator_write_dropin(FILE *f, const struct manifest_unit *u)
{
	fputs("# Made by crkexec-generator for this boot: the unit's processes run already.\n"
	      "[Unit]\n"
	      /* An empty one resets all of them: what is running has passed its conditions. */
	      "ConditionPathExists=\n"
	      "AssertPathExists=\n"
	      "\n"
	      "[Service]\n"
	      "Type=notify\n"
	      "TimeoutStartSec=infinity\n"
	      "ExecCondition=\n"
	      "ExecStartPre=\n"
	      "ExecStartPost=\n"
	      "ExecStart=\n"
	      "ExecStart=+" CRKEXEC_LIB_DIR "/crkexec-adopt %n\n"
	      "RootDirectory=\n"
	      "RootImage=\n"
	      "TemporaryFileSystem=\n", f);
	if (u->identifier) {
		fputs("SyslogIdentifier=", f);
		put_escaped(f, u->identifier);
		fputc('\n', f);
	}
}

void generator_write_finish(FILE *f, const struct manifest *m)
{
	fputs("# Made by crkexec-generator for this boot.\n[Unit]\n", f);
	for (size_t i = 0; i < m->n_units; i++) {
		const struct manifest_unit *u = &m->units[i];

		/* Also a unit that nothing else starts is taken over. */
		if (u->outcome == OUTCOME_RESTORED)
			fprintf(f, "Wants=%s\n", u->name);
		fprintf(f, "After=%s\n", u->name);
	}
	/*
	 * It deletes the packet filter's tables that came along. All that the boot starts must have set up its own:
	 * not only nftables.service, but also what adds rules as it starts (containers, fail2ban), some of which
	 * belongs to default.target only. Targets are ordered after all that they want, whether that succeeds or
	 * not. Not awaited without such tables: one service that takes long to start would hold up the
	 * report and the units' own settings.
	 */
	if (m->n_packet_filter)
		fputs("After=multi-user.target default.target\n", f);
}
