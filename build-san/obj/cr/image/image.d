build-san/obj/cr/image/image.o: cr/image/image.c cr/image/store.h \
 cr/image/image.h cr/util/arena.h cr/util/macro.h cr/util/log.h
cr/image/store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
cr/util/log.h:
