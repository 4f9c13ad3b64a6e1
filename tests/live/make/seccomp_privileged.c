/* Filters that a privileged task installed before it gave up its privileges. */
#define SECCOMP_MAKER_MODE "privileged"
#include "seccomp.c"
