build-san/obj/tests/unit/test_early.o: tests/unit/test_early.c \
 initramfs/early.h crkexec/manifest.h cr/util/macro.h tests/unit/unit.h \
 cr/util/io.h
initramfs/early.h:
crkexec/manifest.h:
cr/util/macro.h:
tests/unit/unit.h:
cr/util/io.h:
