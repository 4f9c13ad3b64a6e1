build-san/obj/crkexec/clock.o: crkexec/clock.c crkexec/clock.h \
 crkexec/manifest.h cr/util/io.h cr/util/macro.h cr/util/log.h
crkexec/clock.h:
crkexec/manifest.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
