build-san/obj/crkexec/status.o: crkexec/status.c crkexec/commands.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/lock.h \
 crkexec/paths.h crkexec/report.h cr/util/io.h cr/util/log.h
crkexec/commands.h:
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
crkexec/lock.h:
crkexec/paths.h:
crkexec/report.h:
cr/util/io.h:
cr/util/log.h:
