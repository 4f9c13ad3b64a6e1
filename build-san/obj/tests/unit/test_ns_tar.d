build-san/obj/tests/unit/test_ns_tar.o: tests/unit/test_ns_tar.c \
 cr/ns/tar.h cr/util/macro.h tests/unit/unit.h cr/util/log.h
cr/ns/tar.h:
cr/util/macro.h:
tests/unit/unit.h:
cr/util/log.h:
