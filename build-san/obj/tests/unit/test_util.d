build-san/obj/tests/unit/test_util.o: tests/unit/test_util.c \
 tests/unit/unit.h cr/util/arena.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h cr/util/map.h
tests/unit/unit.h:
cr/util/arena.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
cr/util/map.h:
