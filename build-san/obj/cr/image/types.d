build-san/obj/cr/image/types.o: cr/image/types.c cr/image/store.h \
 cr/image/image.h cr/util/arena.h cr/util/macro.h
cr/image/store.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
