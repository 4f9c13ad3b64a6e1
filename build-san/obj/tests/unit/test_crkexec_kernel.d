build-san/obj/tests/unit/test_crkexec_kernel.o: \
 tests/unit/test_crkexec_kernel.c crkexec/cmdline.h cr/util/macro.h \
 crkexec/kernel.h crkexec/strv.h tests/unit/unit.h cr/util/io.h
crkexec/cmdline.h:
cr/util/macro.h:
crkexec/kernel.h:
crkexec/strv.h:
tests/unit/unit.h:
cr/util/io.h:
