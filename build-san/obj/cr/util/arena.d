build-san/obj/cr/util/arena.o: cr/util/arena.c cr/util/arena.h \
 cr/util/macro.h
cr/util/arena.h:
cr/util/macro.h:
