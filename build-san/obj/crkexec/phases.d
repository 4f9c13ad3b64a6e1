build-san/obj/crkexec/phases.o: crkexec/phases.c crkexec/clock.h \
 crkexec/manifest.h crkexec/cmdline.h cr/util/macro.h crkexec/paths.h \
 crkexec/phases.h crkexec/phase.h crkexec/upgrade.h crkexec/kernel.h \
 crkexec/strv.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/report.h \
 cr/util/io.h cr/util/log.h
crkexec/clock.h:
crkexec/manifest.h:
crkexec/cmdline.h:
cr/util/macro.h:
crkexec/paths.h:
crkexec/phases.h:
crkexec/phase.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
crkexec/report.h:
cr/util/io.h:
cr/util/log.h:
