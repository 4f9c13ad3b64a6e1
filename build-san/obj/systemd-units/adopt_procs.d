build-san/obj/systemd-units/adopt_procs.o: systemd-units/adopt_procs.c \
 systemd-units/adopt.h cr/util/macro.h cr/util/io.h
systemd-units/adopt.h:
cr/util/macro.h:
cr/util/io.h:
