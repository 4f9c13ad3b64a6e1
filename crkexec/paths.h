/* Where crkexec's own programs are: beside this one in a build directory, else installed. */
#ifndef CRKEXEC_PATHS_H
#define CRKEXEC_PATHS_H

/* Absolute path of this program; heap, NULL on failure. */
char *self_path(void);
/* Of a helper such as "crkexec-early". */
char *lib_path(const char *name);
/* mkdir -p, mode 0700 for what is made. */
int make_dirs(const char *path);
/* Removes a directory with all in it, never leaving its filesystem; absent is fine. */
int remove_tree(const char *path);

#endif
