build-san/obj/tests/unit/test_manifest.o: tests/unit/test_manifest.c \
 crkexec/manifest.h tests/unit/unit.h cr/util/io.h cr/util/macro.h \
 cr/util/log.h
crkexec/manifest.h:
tests/unit/unit.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
