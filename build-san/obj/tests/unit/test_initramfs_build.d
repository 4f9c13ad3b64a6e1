build-san/obj/tests/unit/test_initramfs_build.o: \
 tests/unit/test_initramfs_build.c initramfs/build.h cr/util/macro.h \
 tests/unit/unit.h cr/util/io.h
initramfs/build.h:
cr/util/macro.h:
tests/unit/unit.h:
cr/util/io.h:
