build-san/obj/tests/unit/test_crkexec_phases.o: \
 tests/unit/test_crkexec_phases.c crkexec/phase.h cr/util/macro.h \
 crkexec/undo.h tests/unit/unit.h cr/util/io.h cr/util/log.h
crkexec/phase.h:
cr/util/macro.h:
crkexec/undo.h:
tests/unit/unit.h:
cr/util/io.h:
cr/util/log.h:
