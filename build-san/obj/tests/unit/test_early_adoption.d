build-san/obj/tests/unit/test_early_adoption.o: \
 tests/unit/test_early_adoption.c systemd-units/adopt.h cr/util/macro.h \
 systemd-units/generator.h crkexec/manifest.h tests/unit/unit.h \
 cr/util/io.h
systemd-units/adopt.h:
cr/util/macro.h:
systemd-units/generator.h:
crkexec/manifest.h:
tests/unit/unit.h:
cr/util/io.h:
