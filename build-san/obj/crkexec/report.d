build-san/obj/crkexec/report.o: crkexec/report.c crkexec/report.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h cr/util/io.h cr/util/log.h
crkexec/report.h:
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
cr/util/io.h:
cr/util/log.h:
