/* The command line of crkexec. */
#ifndef CRKEXEC_OPTIONS_H
#define CRKEXEC_OPTIONS_H

#include "crkexec/upgrade.h"

/* 0: go on; 1: answered (--help, --version); -EINVAL: wrong, said on standard error. */
int options_parse(int argc, char **argv, struct options *opt) _must_check_;
void options_done(struct options *opt);

#endif
