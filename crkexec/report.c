#include <json-c/json.h>
#include <string.h>

#include "crkexec/report.h"
#include "util/io.h"
#include "util/log.h"

uint64_t report_blackout_usec(const struct manifest_unit *mu)
{
	if (!mu->frozen_at_usec || mu->restored_at_usec <= mu->frozen_at_usec)
		return 0;
	return mu->restored_at_usec - mu->frozen_at_usec;
}

static char *units_detail(struct upgrade *u)
{
	_cleanup_free_ char *text = strdup("");

	for (size_t i = 0; text && i < u->n_units; i++) {
		char *next = str_fmt("%s%s%s (%zu process%s)", text, i ? ", " : "", u->units[i]->name,
				     u->units[i]->tree.n_pids, u->units[i]->tree.n_pids == 1 ? "" : "es");

		free(text);
		text = next;
	}
	return take_ptr(text);
}

static char *plan_detail(struct upgrade *u)
{
	_cleanup_free_ char *units = units_detail(u);

	return str_fmt("%s -> %s, store %s, about %s; %s", u->m->kernel_from, u->target.version,
		       u->store.ops->name, bytes_text(u->estimate_bytes), units ? units : "");
}

static char *dump_detail(struct upgrade *u)
{
	uint64_t bytes = 0;
	uint32_t tasks = 0, connections = 0;

	for (size_t i = 0; i < u->m->n_units; i++) {
		bytes += u->m->units[i].image_bytes;
		tasks += u->m->units[i].n_tasks;
		connections += u->m->units[i].n_connections;
	}
	return str_fmt("%u processes, %u connections, %s of images", tasks, connections,
		       bytes_text(bytes));
}

char *report_phase_detail(struct upgrade *u, const char *phase)
{
	if (!strcmp(phase, "plan"))
		return plan_detail(u);
	if (!strcmp(phase, "load"))
		return str_fmt("%s, %s initramfs", u->target.image,
			       u->target.own_initramfs ? "own" : "the distribution's");
	if (!strcmp(phase, "quiesce"))
		return str_fmt("%zu services stopped, %zu kept", u->stopped.n, u->kept.n);
	if (!strcmp(phase, "pre-dump"))
		return u->n_pre_dumps ? str_fmt("%s of memory, while the services run", bytes_text(u->pre_dump_bytes)) :
					strdup("not needed, or no room for it");
	if (!strcmp(phase, "dump"))
		return dump_detail(u);
	return NULL;
}

static void add(struct json_object *o, const char *key, struct json_object *v)
{
	if (json_object_object_add(o, key, v) < 0)
		json_object_put(v);
}

static struct json_object *text_json(const char *s)
{
	return s ? json_object_new_string(s) : NULL;
}

static struct json_object *unit_json(const struct manifest_unit *mu)
{
	struct json_object *o = json_object_new_object();
	uint64_t blackout = report_blackout_usec(mu);

	add(o, "name", text_json(mu->name));
	add(o, "outcome", text_json(unit_outcome_name(mu->outcome)));
	add(o, "reason", text_json(mu->reason));
	add(o, "main_pid", json_object_new_int(mu->main_pid));
	add(o, "processes", json_object_new_int64(mu->n_tasks));
	add(o, "connections", json_object_new_int64(mu->n_connections));
	add(o, "unaccepted", json_object_new_int64(mu->n_unaccepted));
	add(o, "image_bytes", json_object_new_uint64(mu->image_bytes));
	add(o, "pre_dump_bytes", json_object_new_uint64(manifest_pre_dump_bytes(mu)));
	add(o, "dump_usec", json_object_new_uint64(mu->dump_usec));
	add(o, "frozen_at_usec", json_object_new_uint64(mu->frozen_at_usec));
	add(o, "restored_at_usec", json_object_new_uint64(mu->restored_at_usec));
	add(o, "blackout_usec", blackout ? json_object_new_uint64(blackout) : NULL);
	return o;
}

struct json_object *report_manifest_json(const struct manifest *m)
{
	struct json_object *o = json_object_new_object(), *a;

	add(o, "id", text_json(m->id));
	add(o, "kernel_from", text_json(m->kernel_from));
	add(o, "kernel_to", text_json(m->kernel_to));
	add(o, "store", text_json(store_kind_name(m->store)));
	a = json_object_new_array();
	for (size_t i = 0; i < m->n_units; i++)
		json_object_array_add(a, unit_json(&m->units[i]));
	add(o, "units", a);
	a = json_object_new_array();
	for (size_t i = 0; i < m->n_phases; i++) {
		struct json_object *p = json_object_new_object();

		add(p, "name", text_json(m->phases[i].name));
		add(p, "begin_usec", json_object_new_uint64(m->phases[i].begin_usec));
		add(p, "end_usec", json_object_new_uint64(m->phases[i].end_usec));
		json_object_array_add(a, p);
	}
	add(o, "phases", a);
	a = json_object_new_array();
	for (size_t i = 0; i < m->n_warnings; i++)
		json_object_array_add(a, text_json(m->warnings[i]));
	add(o, "warnings", a);
	return o;
}

void report_print_json(struct json_object *o)
{
	printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(o);
}

static void unit_text(const struct manifest_unit *mu, FILE *out)
{
	uint64_t blackout = report_blackout_usec(mu), before = manifest_pre_dump_bytes(mu);

	fprintf(out, "  %-28s %-9s", mu->name, unit_outcome_name(mu->outcome));
	if (mu->main_pid)
		fprintf(out, " pid %d,", mu->main_pid);
	fprintf(out, " %u processes, %u connections", mu->n_tasks, mu->n_connections);
	if (blackout)
		fprintf(out, ", blackout %.3f s", (double)blackout / 1e6);
	fprintf(out, ", %s", bytes_text(mu->image_bytes));
	if (before)
		fprintf(out, " and %s before the freeze", bytes_text(before));
	fprintf(out, "\n");
	if (mu->outcome == OUTCOME_COLD)
		fprintf(out, "    started cold: %s\n", mu->reason ? mu->reason : "reason unknown");
	if (mu->n_unaccepted)
		fprintf(out, "    %u connections had not been accepted and are lost\n",
			mu->n_unaccepted);
}

/* From the first freeze to the last return, as far as there was any. */
static void blackout_span(const struct manifest *m, uint64_t *ret_begin, uint64_t *ret_end)
{
	*ret_begin = UINT64_MAX;
	*ret_end = 0;
	for (size_t i = 0; i < m->n_units; i++) {
		if (m->units[i].frozen_at_usec)
			*ret_begin = MIN(*ret_begin, m->units[i].frozen_at_usec);
		*ret_end = MAX(*ret_end, m->units[i].restored_at_usec);
	}
}

static void phase_text(const struct manifest *m, const char *name, uint64_t begin, uint64_t end,
		       FILE *out)
{
	uint64_t from, to;

	blackout_span(m, &from, &to);
	/* A phase that has the freeze or the return inside belongs to it as well. */
	fprintf(out, "  %c %-28s %8.3f s\n", begin < to && end > from ? '*' : ' ', name,
		end > begin ? (double)(end - begin) / 1e6 : 0.0);
}

static void phases_text(const struct manifest *m, FILE *out)
{
	if (m->n_phases)
		fprintf(out, "phases (* in the blackout):\n");
	for (size_t i = 0; i < m->n_phases; i++)
		phase_text(m, m->phases[i].name, m->phases[i].begin_usec, m->phases[i].end_usec, out);
}

void report_manifest_text(const struct manifest *m, FILE *out)
{
	fprintf(out, "upgrade %s: kernel %s -> %s, store %s\n", m->id, m->kernel_from,
		m->kernel_to ? m->kernel_to : "?", store_kind_name(m->store));
	for (size_t i = 0; i < m->n_units; i++)
		unit_text(&m->units[i], out);
	phases_text(m, out);
	for (size_t i = 0; i < m->n_warnings; i++)
		fprintf(out, "warning: %s\n", m->warnings[i]);
}

static struct json_object *obstacles_json(const struct upgrade *u)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < u->n_obstacles; i++) {
		struct json_object *o = json_object_new_object();

		add(o, "unit", text_json(u->obstacles[i].unit));
		add(o, "what", text_json(u->obstacles[i].what));
		add(o, "remedy", text_json(u->obstacles[i].remedy));
		json_object_array_add(a, o);
	}
	return a;
}

static struct json_object *strv_json(const struct strv *l)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < l->n; i++)
		json_object_array_add(a, text_json(l->v[i]));
	return a;
}

static const char *outcome(const struct upgrade *u)
{
	if (u->result < 0)
		return u->result == -ECANCELED ? "stopped" : "failed";
	return u->opt->verb == VERB_CHECK ? "possible" : u->opt->dry_run ? "dry-run" : "done";
}

static void end_json(struct upgrade *u, int undo)
{
	struct json_object *o = report_manifest_json(u->m);

	add(o, "outcome", text_json(outcome(u)));
	add(o, "undone", json_object_new_boolean(undo == 0));
	add(o, "kernel_image", text_json(u->target.image));
	add(o, "initrd", text_json(u->target.own_initramfs ? NULL : u->target.initrd));
	add(o, "command_line", text_json(u->cmdline));
	add(o, "store_reason", text_json(u->store.why));
	add(o, "estimate_bytes", json_object_new_uint64(u->estimate_bytes));
	add(o, "units_to_stop", u->to_stop_known ? strv_json(&u->to_stop) : NULL);
	add(o, "stopped_services", strv_json(&u->stopped));
	add(o, "obstacles", obstacles_json(u));
	report_print_json(o);
}

static void to_stop_text(struct upgrade *u)
{
	progress_line(&u->progress, u->to_stop.n ?
		      "The upgrade stops these first; the new kernel starts what it starts at any boot:" :
		      "The upgrade stops no other service.");
	for (size_t i = 0; i < u->to_stop.n; i++)
		progress_line(&u->progress, "  %s", u->to_stop.v[i]);
}

static void end_text(struct upgrade *u, int undo)
{
	if (u->to_stop_known)
		to_stop_text(u);
	for (size_t i = 0; i < u->m->n_warnings; i++)
		progress_line(&u->progress, "warning: %s", u->m->warnings[i]);
	if (u->opt->dry_run && u->result == 0) {
		progress_line(&u->progress, "store %s: %s", u->store.ops->name, u->store.why);
		progress_line(&u->progress, "command line: %s", u->cmdline);
	}
	if (u->result == 0)
		progress_line(&u->progress, u->opt->verb == VERB_CHECK ?
			      "Nothing stands in the way of this upgrade." :
			      "Dry run: nothing was changed; the upgrade would go on from here.");
	else if (undo == 0)
		progress_line(&u->progress, "Nothing was changed: the services run as before.");
	else if (u->opt->verbose)
		progress_line(&u->progress, "NOT everything could be undone; see above");
	else
		progress_line(&u->progress, "NOT everything could be undone; see %s/%s.log",
			      CRKEXEC_LOG_DIR, u->m->id);
}

void report_end(struct upgrade *u, int undo)
{
	if (u->opt->json)
		end_json(u, undo);
	else
		end_text(u, undo);
}
