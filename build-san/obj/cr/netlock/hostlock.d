build-san/obj/cr/netlock/hostlock.o: cr/netlock/hostlock.c \
 cr/netlock/hostlock.h cr/util/macro.h cr/kernel/sockdiag.h \
 cr/util/arena.h cr/util/map.h cr/util/io.h cr/util/log.h
cr/netlock/hostlock.h:
cr/util/macro.h:
cr/kernel/sockdiag.h:
cr/util/arena.h:
cr/util/map.h:
cr/util/io.h:
cr/util/log.h:
