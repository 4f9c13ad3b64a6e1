/*
 * The two XDP programs, assembled by hand: no compiler for BPF is needed to build, and they
 * are shorter than their loader.
 *
 * Registers: r2 packet, r3 its end, r4 IP header, r5 Ethernet type as it lies in memory,
 * r6 TCP header. Every access is behind a comparison with r3, or the verifier refuses.
 */
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "netlock/netlock.h"

enum label { PASS, DROP, VLAN, L3, V4, V6, TCP, LABELS };

struct assembler {
	struct bpf_insn *insns;
	size_t n;
	enum label target[NETLOCK_INSNS_MAX];	/* of the jumps */
	bool jumps[NETLOCK_INSNS_MAX];
	size_t at[LABELS];
};

static void emit(struct assembler *a, uint8_t code, uint8_t dst, uint8_t src, int16_t off,
		 int32_t imm)
{
	a->insns[a->n++] = (struct bpf_insn){ .code = code, .dst_reg = dst & 15,
					      .src_reg = src & 15, .off = off, .imm = imm };
}

static void label(struct assembler *a, enum label l)
{
	a->at[l] = a->n;
}

static void jump(struct assembler *a, uint8_t code, uint8_t dst, uint8_t src, int32_t imm,
		 enum label to)
{
	a->jumps[a->n] = true;
	a->target[a->n] = to;
	emit(a, code, dst, src, 0, imm);
}

static void jump_if(struct assembler *a, uint8_t op, uint8_t reg, int32_t imm, enum label to)
{
	jump(a, BPF_JMP | op | BPF_K, reg, 0, imm, to);
}

static void go(struct assembler *a, enum label to)
{
	jump(a, BPF_JMP | BPF_JA, 0, 0, 0, to);
}

static void load(struct assembler *a, uint8_t size, uint8_t dst, uint8_t src, int16_t off)
{
	emit(a, BPF_LDX | size | BPF_MEM, dst, src, off, 0);
}

static void add(struct assembler *a, uint8_t dst, uint8_t src, int32_t imm)
{
	emit(a, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
	emit(a, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm);
}

static void and(struct assembler *a, uint8_t dst, int32_t imm)
{
	emit(a, BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, imm);
}

/* At least bytes from reg on, else to. r7 is lost. */
static void need(struct assembler *a, uint8_t reg, int32_t bytes, enum label to)
{
	add(a, 7, reg, bytes);
	jump(a, BPF_JMP | BPF_JGT | BPF_X, 7, 3, 0, to);
}

/* r4, r5 from an Ethernet header, looking behind one VLAN tag. */
static void ether_header(struct assembler *a)
{
	need(a, 2, 14, PASS);
	add(a, 4, 2, 14);
	load(a, BPF_H, 5, 2, 12);
	jump_if(a, BPF_JEQ, 5, htons(0x8100), VLAN);
	jump_if(a, BPF_JEQ, 5, htons(0x88a8), VLAN);
	go(a, L3);
	label(a, VLAN);
	need(a, 2, 18, PASS);
	add(a, 4, 2, 18);
	load(a, BPF_H, 5, 2, 16);
	label(a, L3);
	jump_if(a, BPF_JEQ, 5, htons(0x0800), V4);
	jump_if(a, BPF_JEQ, 5, htons(0x86dd), V6);
	go(a, PASS);
}

/* Interfaces without link header (tunnels): the version nibble says what it is. */
static void bare_header(struct assembler *a)
{
	need(a, 2, 1, PASS);
	add(a, 4, 2, 0);
	load(a, BPF_B, 5, 2, 0);
	emit(a, BPF_ALU64 | BPF_RSH | BPF_K, 5, 0, 0, 4);
	jump_if(a, BPF_JEQ, 5, 4, V4);
	jump_if(a, BPF_JEQ, 5, 6, V6);
	go(a, PASS);
}

/* r6: the TCP header behind an IPv4 header at r4, or to. */
static void tcp_in_v4(struct assembler *a, enum label to)
{
	need(a, 4, 20, to);
	load(a, BPF_B, 0, 4, 9);
	jump_if(a, BPF_JNE, 0, 6, to);
	load(a, BPF_H, 0, 4, 6);		/* not a later fragment */
	and(a, 0, htons(0x1fff));
	jump_if(a, BPF_JNE, 0, 0, to);
	load(a, BPF_B, 0, 4, 0);
	and(a, 0, 15);
	emit(a, BPF_ALU64 | BPF_LSH | BPF_K, 0, 0, 0, 2);
	add(a, 6, 4, 0);
	emit(a, BPF_ALU64 | BPF_ADD | BPF_X, 6, 0, 0, 0);
}

static void tcp_in_v6(struct assembler *a, enum label to)
{
	need(a, 4, 40, to);
	load(a, BPF_B, 0, 4, 6);
	jump_if(a, BPF_JNE, 0, 6, to);
	add(a, 6, 4, 40);
}

static void gate(struct assembler *a)
{
	label(a, V4);
	tcp_in_v4(a, PASS);
	go(a, TCP);
	label(a, V6);
	tcp_in_v6(a, PASS);
	label(a, TCP);
	need(a, 6, 14, PASS);
	load(a, BPF_B, 0, 6, 13);
	and(a, 0, 0x12);			/* SYN, ACK */
	jump_if(a, BPF_JNE, 0, 0x02, PASS);
}

static void lock(struct assembler *a)
{
	label(a, V6);
	need(a, 4, 41, DROP);
	load(a, BPF_B, 0, 4, 6);
	jump_if(a, BPF_JNE, 0, 58, DROP);	/* ICMPv6 */
	load(a, BPF_B, 0, 4, 40);
	jump_if(a, BPF_JLT, 0, 133, DROP);	/* router solicitation ... redirect */
	jump_if(a, BPF_JLE, 0, 137, PASS);
	label(a, V4);
}

/* No neighbours on lo; what a restore sends to itself passes. */
static void lock_loopback(struct assembler *a)
{
	label(a, V4);
	tcp_in_v4(a, DROP);
	go(a, TCP);
	label(a, V6);
	tcp_in_v6(a, DROP);
	label(a, TCP);
	need(a, 6, 20, DROP);
	load(a, BPF_B, 0, 6, 13);
	and(a, 0, 0x20);			/* URG */
	jump_if(a, BPF_JNE, 0, 0, DROP);
	load(a, BPF_H, 0, 6, 18);
	jump_if(a, BPF_JEQ, 0, htons(NETLOCK_REPLAY), PASS);
}

size_t netlock_program(enum netlock_mode mode, enum netlock_link link, struct bpf_insn *insns)
{
	struct assembler a = { .insns = insns };

	load(&a, BPF_W, 2, 1, 0);	/* xdp_md.data */
	load(&a, BPF_W, 3, 1, 4);	/* xdp_md.data_end */
	if (link == NETLOCK_BARE)
		bare_header(&a);
	else
		ether_header(&a);
	if (mode == NETLOCK_GATE)
		gate(&a);
	else if (link == NETLOCK_LOOPBACK)
		lock_loopback(&a);
	else
		lock(&a);
	label(&a, DROP);
	emit(&a, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_DROP);
	emit(&a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	label(&a, PASS);
	emit(&a, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS);
	emit(&a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (size_t i = 0; i < a.n; i++)
		if (a.jumps[i])
			insns[i].off = (int16_t)((int)a.at[a.target[i]] - (int)i - 1);
	return a.n;
}
