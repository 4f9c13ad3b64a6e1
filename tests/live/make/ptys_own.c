/* The same with a devpts of its own, as a container has. */
#define PTYS_OWN
#include "ptys.c"
