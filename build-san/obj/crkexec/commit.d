build-san/obj/crkexec/commit.o: crkexec/commit.c crkexec/clock.h \
 crkexec/manifest.h crkexec/phases.h crkexec/phase.h cr/util/macro.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h crkexec/progress.h \
 crkexec/store.h cr/image/image.h cr/util/arena.h crkexec/unit.h \
 crkexec/undo.h cr/util/io.h cr/util/log.h
crkexec/clock.h:
crkexec/manifest.h:
crkexec/phases.h:
crkexec/phase.h:
cr/util/macro.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
cr/util/io.h:
cr/util/log.h:
