build-san/obj/cr/util/map.o: cr/util/map.c cr/util/map.h cr/util/macro.h
cr/util/map.h:
cr/util/macro.h:
