/* What an operator and a script are told: at the end, and afterwards by `crkexec status`. */
#ifndef CRKEXEC_REPORT_H
#define CRKEXEC_REPORT_H

#include "crkexec/upgrade.h"

/* What stands behind a finished phase's time; heap, or NULL. */
char *report_phase_detail(struct upgrade *u, const char *phase);
/* The outcome in the old kernel: check, dry run, or a failure. undo: first error of an undo. */
void report_end(struct upgrade *u, int undo);

/* The outcome in the new kernel, from its manifest. */
void report_manifest_text(const struct manifest *m, FILE *out);
struct json_object;
struct json_object *report_manifest_json(const struct manifest *m);
/* On standard output; takes it. */
void report_print_json(struct json_object *o);
/* From the freeze of a unit to its return; 0 when it did not return. */
uint64_t report_blackout_usec(const struct manifest_unit *mu);

#endif
