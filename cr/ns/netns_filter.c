/*
 * Packet filter rules of a network namespace → nftables-N.img: the text of `nft list ruleset`, given
 * back to `nft -f`. The program is run only where there are tables.
 *
 * Rules of iptables-legacy live elsewhere and are refused; so are those of iptables-nft that use
 * extensions, which nft(8) shows but cannot read again.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "ns/netns.h"
#include "ns/nft.h"

static int check_legacy(const char *file)
{
	_cleanup_free_ char *table = NULL;
	int r = nft_legacy_table(file, &table);

	if (r <= 0)
		return r;
	return log_obstacle("use nft or iptables-nft in it",
			    "its network namespace has tables of iptables-legacy (%s: %s ...)", file,
			    table);
}

int netns_filter_check(struct dump_ctx *ctx)
{
	_cleanup_free_ char *rules = NULL;
	struct ns_dump *ns = ctx->ns_state;
	struct nft_seen seen;
	int r, refused = 0;

	for (size_t i = 0; i < NFT_LEGACY_FILES; i++) {
		r = check_legacy(nft_legacy_files[i]);
		refused = r < 0 ? r : refused;
	}
	r = nft_look(&seen);
	if (r < 0 || !seen.tables)
		return r < 0 ? r : refused;
	if (seen.compat)
		refused = log_obstacle("write them as nftables rules (iptables-translate)",
				       "its network namespace has iptables rules with extensions");
	r = nft_list(&rules);
	if (r < 0)
		refused = log_obstacle("install nft, or remove the rules",
				       "its network namespace has packet filter rules, and nft list ruleset fails: %s",
				       strerror(-r));
	if (r >= 0)
		ns->filter_rules = arena_strdup(&ctx->arena, rules);
	return r >= 0 && !ns->filter_rules ? -ENOMEM : refused;
}

/* Entries are not saved; the kernel picks up TCP connections in the middle (tcp_loose). */
static void warn_tracked(void)
{
	_cleanup_free_ char *text = NULL;
	uint32_t n;

	if (read_file_at(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count", 32, &text, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (!parse_u32(text, 10, &n) && n)
		log_warn("its network namespace tracks %u connections: to the rules they will be new ones",
			 n);
}

int netns_filter_dump(struct dump_ctx *ctx, uint32_t id)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	const struct ns_dump *ns = ctx->ns_state;
	int r;

	if (!ns->filter_rules)
		return 0;
	warn_tracked();
	r = image_create(ctx->store, &image_nftables, &w, id);
	if (r >= 0)
		r = image_put_raw(w, ns->filter_rules, strlen(ns->filter_rules));
	return r < 0 ? r : image_close(take_ptr(w));
}

static int refuse_legacy(struct restore_ctx *ctx, const struct image_type *type, uint32_t id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	int r = image_open_optional(ctx->store, type, &rd, id);

	if (r < 0 || !rd.bytes)
		return r;
	return log_fail(-EOPNOTSUPP, "%s: rules of iptables-legacy cannot be restored", rd.name);
}

static bool line_is(const char *line, size_t n, const char *begin, const char *end)
{
	size_t b = strlen(begin), e = strlen(end);

	return n >= b + e && !memcmp(line, begin, b) && !memcmp(line + n - e, end, e);
}

char *netns_filter_unlock(const char *rules, size_t bytes, size_t *ret_bytes)
{
	char *ret = malloc(bytes + !bytes), *out = ret;
	const char *closing = NULL;

	for (size_t n; ret && bytes; rules += n, bytes -= n) {
		const char *end = memchr(rules, '\n', bytes);
		size_t text = end ? (size_t)(end - rules) : bytes;

		n = end ? text + 1 : bytes;
		if (closing) {
			if (line_is(rules, text, closing, "") && text == strlen(closing))
				closing = NULL;
			continue;
		}
		if (line_is(rules, text, "\tchain CRIU", " {") && text == strlen("\tchain CRIU {"))
			closing = "\t}";
		else if (line_is(rules, text, "table inet CRIU-", " {"))
			closing = "}";
		else if (!line_is(rules, text, "\t\t", " jump CRIU"))
			out = mempcpy(out, rules, n);
	}
	*ret_bytes = (size_t)(out - ret);
	return ret;
}

int netns_filter_restore(struct restore_ctx *ctx, uint32_t id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	_cleanup_free_ char *rules = NULL;
	size_t bytes;
	int r = refuse_legacy(ctx, &image_iptables, id);

	if (r >= 0)
		r = refuse_legacy(ctx, &image_ip6tables, id);
	if (r >= 0)
		r = image_open_optional(ctx->store, &image_nftables, &rd, id);
	if (r < 0 || !rd.bytes)
		return r;
	rules = netns_filter_unlock((const char *)rd.data, rd.bytes, &bytes);
	r = rules ? nft_load(rules, bytes) : -ENOMEM;
	return r < 0 ? log_err(r, "nft does not take the rules of %s", rd.name) : 0;
}
