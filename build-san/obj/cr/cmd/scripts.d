build-san/obj/cr/cmd/scripts.o: cr/cmd/scripts.c cr/cmd/cmd.h cr/cr.h \
 cr/util/log.h cr/util/macro.h cr/netlock/hostlock.h
cr/cmd/cmd.h:
cr/cr.h:
cr/util/log.h:
cr/util/macro.h:
cr/netlock/hostlock.h:
