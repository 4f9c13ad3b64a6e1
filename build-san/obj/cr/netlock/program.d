build-san/obj/cr/netlock/program.o: cr/netlock/program.c \
 cr/netlock/netlock.h cr/util/macro.h
cr/netlock/netlock.h:
cr/util/macro.h:
