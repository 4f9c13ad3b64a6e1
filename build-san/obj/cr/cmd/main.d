build-san/obj/cr/cmd/main.o: cr/cmd/main.c cr/cmd/cmd.h cr/cr.h \
 cr/util/log.h cr/util/macro.h cr/cmd/show.h cr/image/image.h \
 cr/util/arena.h
cr/cmd/cmd.h:
cr/cr.h:
cr/util/log.h:
cr/util/macro.h:
cr/cmd/show.h:
cr/image/image.h:
cr/util/arena.h:
