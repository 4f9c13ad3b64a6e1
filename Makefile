# crkexec: replace the kernel under running services.
#
#   make            build everything into build/
#   make check      all tests (unit, live on this machine, VM); installs what they need
#   make demo       an upgrade 6.12 -> 7.2 under load in a virtual machine
#   make bench      figures; ENGINE=/path/to/criu puts another engine beside ours
#   make install    DESTDIR=, PREFIX=
#   V=1 shows commands; SAN=1 builds with ASan and UBSan into build-san/

PREFIX ?= /usr
SYSCONFDIR ?= /etc
SYSTEMDDIR ?= /usr/lib/systemd
VERSION := 0.1.0

CC ?= gcc
PKG_CONFIG ?= pkg-config
PROTOC_C ?= protoc-c
B := $(if $(SAN),build-san,build)
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

# maybe-uninitialized misjudges "r < 0 means not set"; truncation of messages is meant.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror \
	-Wno-maybe-uninitialized -Wno-format-truncation
comma := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
CPPFLAGS += -D_GNU_SOURCE= -D_FILE_OFFSET_BITS=64 -DVERSION='"$(VERSION)"' -I. -Icr -I$(B)/proto
CFLAGS ?= -O2 -g
SECTIONS = -ffunction-sections -fdata-sections
ALL_CFLAGS = -std=gnu11 $(WARN) $(SECTIONS) $(CFLAGS) $(SANFLAGS) $(CPPFLAGS) -MMD -MP
LDFLAGS += $(SANFLAGS)

LIBS_CR := libprotobuf-c libnl-3.0 libnl-route-3.0 libcap libxxhash json-c zlib
LIBS_CRKEXEC := $(LIBS_CR) libsystemd mount libkmod libzstd liblzma
pc_libs = $(shell $(PKG_CONFIG) --libs $(1))
# What runs in initramfs images of any make, before any library is there. Without symbols and what
# nobody calls: every byte of an initramfs is hashed and unpacked during the blackout. Sanitizers know no static programs.
EARLY_LINK = $(if $(SAN),$(call pc_libs,$(LIBS_CR)),-static -s -Wl,--gc-sections -Wl,--start-group \
	$(shell $(PKG_CONFIG) --static --libs $(LIBS_CR)) -Wl,--end-group)
CPPFLAGS += $(shell $(PKG_CONFIG) --cflags libnl-3.0 2>/dev/null)

PROTOS := $(wildcard cr/image/proto/*.proto)
PROTO_C := $(PROTOS:cr/image/proto/%.proto=$(B)/proto/%.pb-c.c)
PROTO_O := $(PROTO_C:.c=.o)
PROTO_H := $(PROTO_C:.c=.h)

CR_LIB_C := $(wildcard cr/util/*.c cr/kernel/*.c cr/image/*.c cr/remote/*.c cr/core/*.c \
	cr/task/*.c cr/kind/*.c cr/ns/*.c cr/netlock/*.c)
CR_CMD_C := $(wildcard cr/cmd/*.c)
CRKEXEC_C := $(filter-out crkexec/manifest% crkexec/pmem_%,$(wildcard crkexec/*.c))
SHARED_C := $(wildcard crkexec/manifest*.c crkexec/pmem_*.c)
BUILDER_C := $(wildcard initramfs/build*.c)
EARLY_C := $(wildcard initramfs/early*.c)
GENERATOR_C := $(wildcard systemd-units/generator*.c)
ADOPT_C := $(wildcard systemd-units/adopt*.c)
UNIT_C := $(wildcard tests/unit/*.c)
MAKER_C := $(wildcard tests/live/make/*.c)
FUZZ_C := $(wildcard tests/fuzz/*.c)
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

LIBCR := $(B)/libcr.a
BIN := $(B)/cr $(B)/crkexec $(B)/crkexec-early $(B)/crkexec-adopt $(B)/crkexec-generator
MAKERS := $(MAKER_C:tests/live/make/%.c=$(B)/make/%)
FUZZERS := $(FUZZ_C:tests/fuzz/%.c=$(B)/fuzz/%)

all: $(BIN)

$(B)/proto/%.pb-c.c $(B)/proto/%.pb-c.h: cr/image/proto/%.proto
	$(call say,PROTOC,$<)
	$(Q)mkdir -p $(B)/proto && $(PROTOC_C) -I cr/image/proto --c_out=$(B)/proto $<

$(PROTO_O): $(B)/proto/%.o: $(B)/proto/%.c | $(PROTO_H)
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu11 $(SECTIONS) $(CFLAGS) $(SANFLAGS) -I$(B)/proto -c -o $@ $<

$(B)/obj/%.o: %.c | $(PROTO_H)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -c -o $@ $<

$(LIBCR): $(call obj,$(CR_LIB_C)) $(PROTO_O)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar qcs $@ $^

$(B)/cr: $(call obj,$(CR_CMD_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CR)) -ldl

$(B)/crkexec: $(call obj,$(CRKEXEC_C) $(SHARED_C) $(BUILDER_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CRKEXEC))

$(B)/crkexec-early: $(call obj,$(EARLY_C) $(SHARED_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(EARLY_LINK)

$(B)/crkexec-adopt: $(call obj,$(ADOPT_C) $(SHARED_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CR) libsystemd)

$(B)/crkexec-generator: $(call obj,$(GENERATOR_C) $(SHARED_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CR))

# Unit tests see everything but the mains.
$(B)/unit-tests: $(call obj,$(UNIT_C)) $(call obj,$(filter-out %/main.c,$(CR_CMD_C) $(CRKEXEC_C))) \
		$(call obj,$(SHARED_C) $(BUILDER_C)) \
		$(call obj,$(filter-out %/early_main.c %/generator.c %/adopt.c,\
			$(EARLY_C) $(GENERATOR_C) $(ADOPT_C))) $(LIBCR)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CRKEXEC)) -ldl

$(B)/make/%: $(B)/obj/tests/live/make/%.o
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $< -lpthread -lrt -lcap
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(call obj,$(wildcard cr/cmd/show_*.c)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CR))

# The new kernel's side with a stand-in for the engine (tests/vm/standin_restore.c): its
# cr_restore() comes before the library's.
STANDINS := $(B)/test/crkexec-early-standin $(B)/test/standin-pack $(B)/test/standin-service
$(B)/test/crkexec-early-standin: $(call obj,$(EARLY_C) $(SHARED_C) tests/vm/standin_restore.c) \
		$(LIBCR)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(EARLY_LINK)
$(B)/test/standin-pack: $(call obj,tests/vm/standin_pack.c $(BUILDER_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CRKEXEC))
$(B)/test/standin-service: $(call obj,tests/vm/standin_service.c)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) -static -o $@ $^ -lpthread
# The pmem store without an engine (tests/vm/store_probe.c).
STOREPROBES := $(B)/test/store-probe $(B)/test/store-probe-early
$(B)/test/store-probe: $(call obj,tests/vm/store_probe.c $(filter-out %/main.c,$(CRKEXEC_C)) \
		$(SHARED_C) $(BUILDER_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(call pc_libs,$(LIBS_CRKEXEC))
$(B)/test/store-probe-early: $(call obj,tests/vm/store_probe_early.c \
		$(filter-out %/early_main.c,$(EARLY_C)) $(SHARED_C)) $(LIBCR)
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(EARLY_LINK)
standins: $(STANDINS)
storeprobes: $(STOREPROBES)

makers: $(MAKERS)
fuzzers: $(FUZZERS)

deps:
	$(Q)scripts/deps
deps-build:
	$(Q)scripts/deps --build

check: deps
	$(Q)$(MAKE) --no-print-directory all makers fuzzers $(B)/unit-tests
	$(Q)tests/run
check-unit: deps-build
	$(Q)$(MAKE) --no-print-directory all fuzzers $(B)/unit-tests
	$(Q)tests/run unit
check-live: deps
	$(Q)$(MAKE) --no-print-directory all makers
	$(Q)tests/run live
check-vm: deps
	$(Q)$(MAKE) --no-print-directory all makers
	$(Q)tests/run vm
demo: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/vm/demo
bench: deps
	$(Q)$(MAKE) --no-print-directory all makers
	$(Q)tests/bench/run

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib/crkexec \
		$(DESTDIR)$(SYSTEMDDIR)/system $(DESTDIR)$(SYSTEMDDIR)/system-generators \
		$(DESTDIR)$(PREFIX)/lib/dracut/modules.d/90crkexec \
		$(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(B)/cr $(B)/crkexec $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(B)/crkexec-early $(B)/crkexec-adopt $(DESTDIR)$(PREFIX)/lib/crkexec/
	install -m 755 $(B)/crkexec-generator $(DESTDIR)$(SYSTEMDDIR)/system-generators/
	$(Q)set -e; for f in systemd-units/*.service systemd-units/*.timer; do \
		[ ! -e $$f ] || install -m 644 $$f $(DESTDIR)$(SYSTEMDDIR)/system/; done
	$(Q)set -e; for f in dracut-module/90crkexec/*; do \
		[ ! -e $$f ] || install -m $$(test -x $$f && echo 755 || echo 644) $$f \
			$(DESTDIR)$(PREFIX)/lib/dracut/modules.d/90crkexec/; done
	$(Q)set -e; for f in man/*.8; do \
		[ ! -e $$f ] || install -m 644 $$f $(DESTDIR)$(PREFIX)/share/man/man8/; done
	$(Q)set -e; for f in completions/*; do [ ! -e $$f ] || \
		install -m 644 $$f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/; done

clean:
	rm -rf build build-san

-include $(shell find $(B) -name '*.d' -type f 2>/dev/null)
.PHONY: storeprobes all standins makers fuzzers deps deps-build check check-unit check-live check-vm demo bench install clean
.SECONDARY:
