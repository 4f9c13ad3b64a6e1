build-san/obj/systemd-units/adopt_finish.o: systemd-units/adopt_finish.c \
 systemd-units/adopt.h cr/util/macro.h crkexec/manifest.h cr/util/io.h \
 cr/util/log.h
systemd-units/adopt.h:
cr/util/macro.h:
crkexec/manifest.h:
cr/util/io.h:
cr/util/log.h:
