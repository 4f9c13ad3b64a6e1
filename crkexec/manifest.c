/*
 * The manifest as text: what it is made of is said once, in the tables below; writing,
 * reading, checking and freeing walk them.
 *
 * The text comes from the store of an upgrade, which may be damaged: every value is checked
 * against its table row before it is believed. 64-bit addresses and checksums are written as
 * hexadecimal strings, because JSON readers elsewhere keep only 53 bits of a number.
 */
#include <json-c/json.h>
#include <string.h>
#include <xxhash.h>

#include "crkexec/manifest.h"
#include "crkexec/manifest_desc.h"
#include "util/io.h"
#include "util/log.h"
#include "util/macro.h"

#define SUM_LINE_BYTES		22u	/* "xxh3 " 16 digits "\n" */

static const char *const outcome_names[] = { "pending", "restored", "cold", "adopted", NULL };
static const char *const store_names[] = { "tmpfs", "pmem", NULL };

const char *unit_outcome_name(enum unit_outcome o)
{
	return (size_t)o < ARRAY_SIZE(outcome_names) - 1 ? outcome_names[o] : "unknown";
}

const char *store_kind_name(enum store_kind k)
{
	return (size_t)k < ARRAY_SIZE(store_names) - 1 ? store_names[k] : "unknown";
}

#define S struct manifest_image
static const struct field image_fields[] = {
	F_TEXT(S, name, TEXT_NAME, 0),
	F_U64(S, bytes),
	F_HEX(S, hash),
	F_END
};
static const struct record image_record = { sizeof(S), image_fields };
#undef S

#define S struct manifest_tree
static const struct field tree_fields[] = {
	F_PID(S, root_pid, 1),
	F_TEXT(S, dir, TEXT_RELATIVE, 0),
	F_U64(S, bundle_off),
	F_U64(S, bundle_bytes),
	F_HEX(S, bundle_hash),
	F_U64(S, pre_dump_off),
	F_U64(S, pre_dump_bytes),
	F_HEX(S, pre_dump_hash),
	F_LIST(S, images, n_images, image_record),
	F_END
};
static const struct record tree_record = { sizeof(S), tree_fields };
#undef S

#define S struct manifest_carry
static const struct field carry_fields[] = {
	F_TEXT(S, path, TEXT_PATH, 0),
	F_TEXT(S, archive, TEXT_NAME, FIELD_OPTIONAL),
	F_BOOL(S, only_dir),
	F_BOOL(S, single),
	F_END
};
static const struct record carry_record = { sizeof(S), carry_fields };
#undef S

#define S struct manifest_stream
static const struct field stream_fields[] = {
	F_U64(S, socket_ino),
	F_END
};
static const struct record stream_record = { sizeof(S), stream_fields };
#undef S

#define S struct manifest_unit
static const struct field unit_fields[] = {
	F_TEXT(S, name, TEXT_UNIT, 0),
	F_TEXT(S, cgroup, TEXT_PATH, 0),
	F_TEXT(S, type, TEXT_NAME, 0),
	F_TEXT(S, identifier, TEXT_ANY, FIELD_OPTIONAL),
	F_PID(S, main_pid, 0),
	F_PID(S, control_pid, 0),
	F_LIST(S, trees, n_trees, tree_record),
	F_LIST(S, carries, n_carries, carry_record),
	F_LIST(S, streams, n_streams, stream_record),
	F_STRINGS(S, profiles, n_profiles, TEXT_ANY),
	F_STRINGS(S, filesystems, n_filesystems, TEXT_PATH),
	F_U32(S, n_connections),
	F_U32(S, n_unaccepted),
	F_U32(S, n_tasks),
	F_U64(S, image_bytes),
	F_U64(S, dump_usec),
	F_ENUM(S, outcome, outcome_names),
	F_TEXT(S, reason, TEXT_ANY, FIELD_OPTIONAL),
	F_U64(S, frozen_at_usec),
	F_U64(S, restored_at_usec),
	F_END
};
static const struct record unit_record = { sizeof(S), unit_fields };
#undef S

#define S struct manifest_mount
static const struct field mount_fields[] = {
	F_TEXT(S, source, TEXT_ANY, 0),
	F_TEXT(S, target, TEXT_PATH, 0),
	F_TEXT(S, fstype, TEXT_NAME, 0),
	F_TEXT(S, options, TEXT_ANY, 0),
	F_U64(S, flags),
	F_END
};
static const struct record mount_record = { sizeof(S), mount_fields };
#undef S

#define S struct manifest_address
static const struct field address_fields[] = {
	F_TEXT(S, address, TEXT_ANY, 0),
	F_INT(S, family),
	F_U32(S, flags),
	F_U32(S, scope),
	F_END
};
static const struct record address_record = { sizeof(S), address_fields };
#undef S

#define S struct manifest_link
static const struct field link_fields[] = {
	F_TEXT(S, name, TEXT_NAME, 0),
	F_TEXT(S, mac, TEXT_ANY, 0),
	F_U32(S, mtu),
	F_U32(S, index),
	F_TEXT(S, kind, TEXT_NAME, FIELD_OPTIONAL),
	F_TEXT(S, lower, TEXT_NAME, FIELD_OPTIONAL),
	F_TEXT(S, master, TEXT_NAME, FIELD_OPTIONAL),
	F_TEXT(S, settings, TEXT_ANY, FIELD_OPTIONAL),
	F_LIST(S, addresses, n_addresses, address_record),
	F_END
};
static const struct record link_record = { sizeof(S), link_fields };
#undef S

#define S struct manifest_metric
static const struct field metric_fields[] = {
	F_U32(S, type),
	F_U32(S, value),
	F_END
};
static const struct record metric_record = { sizeof(S), metric_fields };
#undef S

#define S struct manifest_route
static const struct field route_fields[] = {
	F_TEXT(S, dst, TEXT_ANY, 0),
	F_TEXT(S, via, TEXT_ANY, FIELD_OPTIONAL),
	F_TEXT(S, dev, TEXT_NAME, FIELD_OPTIONAL),
	F_TEXT(S, src, TEXT_ANY, FIELD_OPTIONAL),
	F_INT(S, family),
	F_U32(S, table),
	F_U32(S, metric),
	F_U32(S, scope),
	F_U32(S, protocol),
	F_U32(S, type),
	F_U32(S, flags),
	F_LIST(S, metrics, n_metrics, metric_record),
	F_END
};
static const struct record route_record = { sizeof(S), route_fields };
#undef S

#define S struct manifest_clock
static const struct field clock_fields[] = {
	F_I64(S, realtime_nsec),
	F_I64(S, monotonic_nsec),
	F_I64(S, boottime_nsec),
	F_U64(S, tsc),
	F_U64(S, tsc_khz),
	F_END
};
static const struct record clock_record = { sizeof(S), clock_fields };
#undef S

#define S struct manifest_range
static const struct field range_fields[] = {
	F_HEX(S, addr),
	F_U64(S, bytes),
	F_END
};
static const struct record range_record = { sizeof(S), range_fields };
#undef S

#define S struct manifest_phase
static const struct field phase_fields[] = {
	F_TEXT(S, name, TEXT_ANY, 0),
	F_U64(S, begin_usec),
	F_U64(S, end_usec),
	F_END
};
static const struct record phase_record = { sizeof(S), phase_fields };
#undef S

#define S struct manifest
static const struct field manifest_fields[] = {
	F_TEXT(S, id, TEXT_HEX16, 0),
	F_TEXT(S, kernel_from, TEXT_NAME, 0),
	F_TEXT(S, kernel_to, TEXT_NAME, 0),
	F_TEXT(S, boot_id_from, TEXT_NAME, FIELD_OPTIONAL),
	F_TEXT(S, root_init, TEXT_PATH, FIELD_OPTIONAL),
	F_ENUM(S, store, store_names),
	F_LIST(S, ranges, n_ranges, range_record),
	F_RECORD(S, clock, clock_record),
	F_LIST(S, units, n_units, unit_record),
	F_LIST(S, mounts, n_mounts, mount_record),
	F_LIST(S, links, n_links, link_record),
	F_LIST(S, lo_addresses, n_lo_addresses, address_record),
	F_LIST(S, routes, n_routes, route_record),
	F_STRINGS(S, policy_rules, n_policy_rules, TEXT_ANY),
	F_STRINGS(S, network_modules, n_network_modules, TEXT_MODULE),
	F_STRINGS(S, modules, n_modules, TEXT_MODULE),
	F_STRINGS(S, sysctls, n_sysctls, TEXT_ANY),
	F_STRINGS(S, packet_filter, n_packet_filter, TEXT_ANY),
	F_STRINGS(S, packet_filter_modules, n_packet_filter_modules, TEXT_NAME),
	F_LIST(S, phases, n_phases, phase_record),
	F_STRINGS(S, warnings, n_warnings, TEXT_ANY),
	F_END
};
static const struct record manifest_record = { sizeof(S), manifest_fields };
#undef S

struct manifest *manifest_new(void)
{
	return calloc(1, sizeof(struct manifest));
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	record_done(&manifest_record, m);
	free(m);
}

int manifest_to_text(const struct manifest *m, char **ret, size_t *ret_bytes)
{
	struct json_object *o = NULL;
	_cleanup_free_ char *text = NULL;
	const char *json;
	int r = record_to_json(&manifest_record, m, &o);

	if (r < 0)
		return r;
	json = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
					      JSON_C_TO_STRING_NOSLASHESCAPE);
	if (json)
		text = str_fmt("%s\nxxh3 %016llx\n", json,
			       (unsigned long long)XXH3_64bits(json, strlen(json)));
	json_object_put(o);
	if (!text)
		return -ENOMEM;
	*ret_bytes = strlen(text);
	if (*ret_bytes > MANIFEST_MAX_BYTES)
		return -EFBIG;
	*ret = take_ptr(text);
	return 0;
}

/* The JSON part of a sealed text; its length. */
static int manifest_check_sum(const char *text, size_t bytes, size_t *ret_bytes)
{
	char line[SUM_LINE_BYTES + 1];
	size_t n;

	if (bytes > MANIFEST_MAX_BYTES)
		return log_fail(-EBADMSG, "manifest: %zu bytes are too many", bytes);
	if (bytes <= SUM_LINE_BYTES || text[bytes - SUM_LINE_BYTES - 1] != '\n')
		return log_fail(-EBADMSG, "manifest: the checksum line is missing");
	n = bytes - SUM_LINE_BYTES - 1;
	snprintf(line, sizeof(line), "xxh3 %016llx\n", (unsigned long long)XXH3_64bits(text, n));
	if (memcmp(line, text + n + 1, SUM_LINE_BYTES))
		return log_fail(-EBADMSG, "manifest: wrong checksum: the text is damaged");
	*ret_bytes = n;
	return 0;
}

static int manifest_check_units(const struct manifest *m)
{
	for (size_t i = 0; i < m->n_units; i++)
		for (size_t k = i + 1; k < m->n_units; k++)
			if (!strcmp(m->units[i].name, m->units[k].name))
				return log_fail(-EBADMSG, "manifest: unit %s stands there twice",
						m->units[i].name);
	return 0;
}

int manifest_from_text(const char *text, size_t bytes, struct manifest **ret)
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	struct json_tokener *tok;
	struct json_object *o;
	size_t n = 0;
	int r;

	if (!m)
		return -ENOMEM;
	r = manifest_check_sum(text, bytes, &n);
	if (r < 0)
		return r;
	tok = json_tokener_new_ex(16);
	if (!tok)
		return -ENOMEM;
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	o = json_tokener_parse_ex(tok, text, (int)n);
	if (!o)
		r = log_fail(-EBADMSG, "manifest: not JSON at byte %zu: %s",
			     json_tokener_get_parse_end(tok),
			     json_tokener_error_desc(json_tokener_get_error(tok)));
	json_tokener_free(tok);
	if (r < 0)
		return r;
	r = record_from_json(&manifest_record, m, o, "manifest");
	json_object_put(o);
	if (r < 0)
		return r;
	r = manifest_check_units(m);
	if (r < 0)
		return r;
	*ret = take_ptr(m);
	return 0;
}

int manifest_load(int dirfd, const char *path, struct manifest **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t bytes;
	int r = read_file_at(dirfd, path, MANIFEST_MAX_BYTES, &text, &bytes);

	if (r < 0)
		return r == -ENOENT ? r : log_err(r, "cannot read %s", path);
	return manifest_from_text(text, bytes, ret);
}
