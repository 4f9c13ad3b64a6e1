build-san/obj/crkexec/options.o: crkexec/options.c crkexec/options.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h
crkexec/options.h:
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
