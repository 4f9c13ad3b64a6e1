build-san/obj/cr/netlock/netlock.o: cr/netlock/netlock.c \
 cr/netlock/netlock.h cr/util/macro.h cr/netlock/links.h cr/util/log.h
cr/netlock/netlock.h:
cr/util/macro.h:
cr/netlock/links.h:
cr/util/log.h:
