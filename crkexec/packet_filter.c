/*
 * The machine's packet filter as nft(8) writes it, for the new kernel's early side: the services answer
 * long before the new boot's own service loads its rules. Connection tracking is not carried: with the rules there
 * first, what the restored connections send at once is picked up in the middle (nf_conntrack_tcp_loose).
 *
 * They are a stopgap, in tables of our own names (packet_filter_text.c): the boot's services know nothing of them, and
 * when those have set up theirs, `crkexec finish` deletes ours. So nothing is there twice, and what a service would
 * have removed when it stops, or somebody has added by hand, does not stay.
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/machine.h"
#include "crkexec/packet_filter.h"
#include "crkexec/upgrade.h"
#include "ns/nft.h"
#include "util/io.h"
#include "util/log.h"

static const char *const module_prefixes[] = { "nf_", "nft_", "nfnetlink" };

static void warn_late(struct upgrade *u, const char *why)
{
	upgrade_warn(u, "the packet filter is loaded only by the new boot, some seconds after the services answer again, and "
		     "then it knows no connections: %s", why);
}

/* Those that are loaded now. The trap: in the distribution's initramfs the kernel asks for them in vain. */
static int read_modules(struct strv *names)
{
	_cleanup_free_ char *text = NULL;
	char *line, *rest;
	int r = read_file_at(AT_FDCWD, "/proc/modules", READ_FILE_MAX, &text, NULL);

	/* None but what is built in. */
	if (r < 0)
		return r == -ENOENT ? 0 : log_err(r, "cannot read /proc/modules");
	for (line = strtok_r(text, "\n", &rest); line && r == 0; line = strtok_r(NULL, "\n", &rest)) {
		line[strcspn(line, " ")] = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(module_prefixes); i++)
			if (r == 0 && str_starts(line, module_prefixes[i]))
				r = strv_add_once(names, line);
	}
	return r;
}

/* 1: they can be carried; 0: they cannot, and a warning says so. */
static int take_rules(struct upgrade *u, const struct manifest *m, char *rules, struct strv *lines)
{
	_cleanup_free_ char *why = NULL, *text = NULL;
	int r = packet_filter_rename(rules, lines);

	if (r == -E2BIG || r == -EBADMSG) {
		warn_late(u, r == -E2BIG ? "its rules or the name of a table are too long" :
			  "nft shows a table whose name it cannot read again");
		return 0;
	}
	if (r == 0)
		r = packet_filter_check(lines->v, lines->n, m, &why);
	if (r <= 0)
		return r < 0 ? r : 1;
	text = str_fmt("nft refuses its rules: %s", why);
	if (!text)
		return -ENOMEM;
	warn_late(u, text);
	return 0;
}

static int read_rules(struct upgrade *u, struct manifest *m)
{
	_cleanup_strv_ struct strv lines = { 0 }, modules = { 0 };
	_cleanup_free_ char *rules = NULL;
	int r = nft_list(&rules);

	if (r < 0) {
		warn_late(u, r == -ENOPKG ? "there is no nft program to read it" : "\"nft list ruleset\" fails");
		return 0;
	}
	r = take_rules(u, m, rules, &lines);
	if (r <= 0)
		return r;
	r = read_modules(&modules);
	if (r < 0)
		return r;
	m->packet_filter = take_ptr(lines.v);
	m->n_packet_filter = lines.n;
	m->packet_filter_modules = take_ptr(modules.v);
	m->n_packet_filter_modules = modules.n;
	lines.n = modules.n = 0;
	return 0;
}

int packet_filter_read(struct upgrade *u, struct manifest *m)
{
	struct nft_seen seen;
	int r;

	for (size_t i = 0; i < NFT_LEGACY_FILES; i++) {
		_cleanup_free_ char *table = NULL;

		r = nft_legacy_table(nft_legacy_files[i], &table);
		if (r < 0)
			return r;
		if (r > 0) {
			warn_late(u, "it has tables of iptables-legacy");
			return 0;
		}
	}
	r = nft_look(&seen);
	if (r < 0 || !seen.tables)
		return r;
	if (seen.compat) {
		warn_late(u, "it has rules of iptables-nft with extensions, which nft cannot load");
		return 0;
	}
	return read_rules(u, m);
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *s = text; (s = strstr(s, line)); s += n)
		if ((s == text || s[-1] == '\n') && (s[n] == '\n' || !s[n]))
			return true;
	return false;
}

/* "nft delete table inet crkexec_NAME" for those that are there: a service's "flush ruleset" took ours as well. */
static int list_deletes(const struct manifest *m, struct strv *ret)
{
	_cleanup_strv_ struct strv ours = { 0 };
	_cleanup_free_ char *there = NULL;
	int r = packet_filter_ours(m->packet_filter, m->n_packet_filter, &ours), listed = 0;
	struct nft_seen seen;

	if (r < 0 || !ours.n || (nft_look(&seen) == 0 && !seen.tables))
		return r;
	listed = nft_list_tables(&there);
	for (size_t i = 0; i < ours.n && r == 0; i++) {
		_cleanup_free_ char *line = str_fmt("table %s", ours.v[i]);

		if (!line)
			return -ENOMEM;
		/* Where they cannot be listed all are named. */
		if (listed < 0 || has_line(there, line))
			r = strv_add_take(ret, str_fmt("nft delete %s", line));
	}
	return r < 0 ? r : listed;
}

static int delete_all(const struct strv *commands)
{
	_cleanup_free_ char **lines = calloc(commands->n, sizeof(*lines));
	_cleanup_free_ char *text = NULL;
	size_t bytes;

	for (size_t i = 0; lines && i < commands->n; i++)
		lines[i] = commands->v[i] + strlen("nft ");
	text = lines ? nft_join(lines, commands->n, &bytes) : NULL;
	return text ? nft_load(text, bytes) : -ENOMEM;
}

void packet_filter_remove(struct manifest *m)
{
	_cleanup_strv_ struct strv commands = { 0 };
	int r = list_deletes(m, &commands);

	if (r == 0 && commands.n)
		r = delete_all(&commands);
	if (r < 0)
		(void)!manifest_add_warning(m, "the packet filter's rules of before the jump may still be there, beside "
					    "the new boot's own: nft did not delete their tables. Do it by hand: %s",
					    strv_text(&commands));
}
