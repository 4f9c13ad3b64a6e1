build-san/obj/crkexec/store_tmpfs.o: crkexec/store_tmpfs.c crkexec/load.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/memory.h \
 cr/util/io.h cr/util/log.h
crkexec/load.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/manifest.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
crkexec/memory.h:
cr/util/io.h:
cr/util/log.h:
