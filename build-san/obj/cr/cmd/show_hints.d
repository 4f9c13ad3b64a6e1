build-san/obj/cr/cmd/show_hints.o: cr/cmd/show_hints.c cr/cmd/show.h \
 cr/image/image.h cr/util/arena.h cr/util/macro.h
cr/cmd/show.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
