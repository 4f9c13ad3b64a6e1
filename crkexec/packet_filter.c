/*
 * The machine's packet filter as nft(8) writes it, for the new kernel's early side: the services answer
 * long before the new boot's own service loads its rules. Connection tracking is not carried: with the rules there
 * first, what the restored connections send at once is picked up in the middle (nf_conntrack_tcp_loose).
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/machine.h"
#include "crkexec/manifest_desc.h"
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

/* -E2BIG: a line that the manifest does not take. */
static int split(char *rules, struct strv *lines)
{
	char *line, *rest;
	int r = 0;

	for (line = strtok_r(rules, "\n", &rest); line && r == 0; line = strtok_r(NULL, "\n", &rest)) {
		for (char *c = line; (c = strchr(c, '\t')); )
			*c = ' ';
		r = strlen(line) >= TEXT_MAX || lines->n >= LIST_MAX ? -E2BIG : strv_add(lines, line);
	}
	return r;
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
	r = split(rules, &lines);
	if (r == -E2BIG) {
		warn_late(u, "its rules are too long");
		return 0;
	}
	if (r == 0)
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
