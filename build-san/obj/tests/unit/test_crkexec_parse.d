build-san/obj/tests/unit/test_crkexec_parse.o: \
 tests/unit/test_crkexec_parse.c crkexec/clock.h crkexec/manifest.h \
 crkexec/keep.h crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h \
 cr/util/macro.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/lock.h \
 crkexec/memory.h crkexec/options.h crkexec/tree.h tests/unit/unit.h
crkexec/clock.h:
crkexec/manifest.h:
crkexec/keep.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
crkexec/lock.h:
crkexec/memory.h:
crkexec/options.h:
crkexec/tree.h:
tests/unit/unit.h:
