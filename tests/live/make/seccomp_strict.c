/* Strict mode in a second thread. */
#define SECCOMP_MAKER_MODE "strict"
#include "seccomp.c"
