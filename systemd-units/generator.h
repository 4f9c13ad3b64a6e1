/* What the generator writes, apart from where: see generator.c. */
#ifndef SYSTEMD_UNITS_GENERATOR_H
#define SYSTEMD_UNITS_GENERATOR_H

#include <stdbool.h>
#include <stdio.h>

#include "crkexec/manifest.h"

enum adoption { ADOPTION_NONE, ADOPTION_DONE, ADOPTION_COLD };

/* Contents of /run/crkexec/adopted/UNIT; NULL: there is none. */
enum adoption adoption_from_text(const char *text);
/* The unit's next start is an adoption. */
bool generator_wants(const struct manifest_unit *u, enum adoption a);
void generator_write_dropin(FILE *f, const struct manifest_unit *u);
/* Pulls in and waits for the units that were restored. */
void generator_write_finish(FILE *f, const struct manifest *m);

#endif
