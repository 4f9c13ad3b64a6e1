build-san/obj/cr/util/log.o: cr/util/log.c cr/util/log.h cr/util/macro.h
cr/util/log.h:
cr/util/macro.h:
