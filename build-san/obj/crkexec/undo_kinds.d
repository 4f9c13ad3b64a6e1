build-san/obj/crkexec/undo_kinds.o: crkexec/undo_kinds.c \
 crkexec/hugepages.h crkexec/manifest.h crkexec/undo.h cr/util/macro.h \
 crkexec/load.h crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h \
 crkexec/progress.h crkexec/store.h cr/image/image.h cr/util/arena.h \
 crkexec/unit.h crkexec/paths.h crkexec/tree.h cr/util/io.h cr/util/log.h
crkexec/hugepages.h:
crkexec/manifest.h:
crkexec/undo.h:
cr/util/macro.h:
crkexec/load.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/paths.h:
crkexec/tree.h:
cr/util/io.h:
cr/util/log.h:
