build-san/obj/tests/unit/test_mountinfo.o: tests/unit/test_mountinfo.c \
 cr/kernel/mountinfo.h cr/util/arena.h cr/util/macro.h tests/unit/unit.h
cr/kernel/mountinfo.h:
cr/util/arena.h:
cr/util/macro.h:
tests/unit/unit.h:
