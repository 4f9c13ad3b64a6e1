build-san/obj/tests/unit/test_task_status.o: \
 tests/unit/test_task_status.c cr/kernel/status.h cr/util/macro.h \
 tests/unit/unit.h
cr/kernel/status.h:
cr/util/macro.h:
tests/unit/unit.h:
