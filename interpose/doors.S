// SPDX-License-Identifier: Apache-2.0
//
// dlsym and dlopen as the program calls them.
//
// Both depend on who calls: RTLD_NEXT and RTLD_DEFAULT start at the caller's object, dlopen follows
// the caller's DT_RUNPATH, and the C library tells the caller by the return address. So the real
// function must be jumped to with the stack as it was; a compiler does that only if it likes, hence
// assembly. What can be answered by a call (dlsym with a handle) goes to C.
//
// The quick way, for every name that is not CUDA's, is a few comparisons: no call, nothing written.
//
//   dlsym(handle, name)
//     RTLD_NEXT, no name, name not cu[A-Z]... or cuda[A-Z]...   jump to the real one
//     RTLD_DEFAULT                                              also, unless mw_doors_nobody_has
//     a handle                                                  mw_doors_dlsym
//   dlopen(path, flags)
//     with RTLD_DEEPBIND, mw_doors_deepbind chooses the flags; then always a jump
//
// mw_real_dlsym and mw_real_dlopen are NULL until the first call, which fetches them: most processes
// that we are preloaded into make none, and others make theirs before our constructor.

#ifdef __CET__
#include <cet.h>
#else
#define _CET_ENDBR
#endif

#define RTLD_DEEPBIND 8

.macro function name
    .text
    .p2align 4
    .globl \name
    .type \name, %function
\name:
    .cfi_startproc
.endm
.macro end name
    .cfi_endproc
    .size \name, . - \name
.endm

#if defined(__x86_64__)

// Calls a C function and keeps the arguments, rdi and rsi. Entered with the return address alone on
// the stack, so three more words align it.
.macro keeping_arguments callee
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    call \callee
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
.endm

function dlsym
    _CET_ENDBR
    cmp $-1, %rdi
    je .Lreal_dlsym
    test %rsi, %rsi
    jz .Lreal_dlsym
    cmpb $'c', (%rsi)
    jne .Lreal_dlsym
    cmpb $'u', 1(%rsi)
    jne .Lreal_dlsym
    movzbl 2(%rsi), %eax
    cmp $'d', %al
    jne .Lcapital
    cmpb $'a', 3(%rsi)
    jne .Lreal_dlsym
    movzbl 4(%rsi), %eax
.Lcapital:
    sub $'A', %eax
    cmp $'Z' - 'A', %eax
    ja .Lreal_dlsym
    test %rdi, %rdi
    jnz mw_doors_dlsym
    keeping_arguments .Lnobody_has
    test %al, %al
    jnz .Lnothing
.Lreal_dlsym:
    mov mw_real_dlsym(%rip), %rax
    test %rax, %rax
    jnz .Ljump_dlsym
    keeping_arguments mw_doors_init
    mov mw_real_dlsym(%rip), %rax
    test %rax, %rax
    jz .Lnothing
.Ljump_dlsym:
    jmp *%rax
.Lnothing:
    xor %eax, %eax
    ret
.Lnobody_has:
    mov %rsi, %rdi
    jmp mw_doors_nobody_has
end dlsym

function dlopen
    _CET_ENDBR
    test $RTLD_DEEPBIND, %esi
    jz .Lreal_dlopen
    keeping_arguments mw_doors_deepbind
    mov %eax, %esi
.Lreal_dlopen:
    mov mw_real_dlopen(%rip), %rax
    test %rax, %rax
    jnz .Ljump_dlopen
    keeping_arguments mw_doors_init
    mov mw_real_dlopen(%rip), %rax
    test %rax, %rax
    jz .Lnothing_opened
.Ljump_dlopen:
    jmp *%rax
.Lnothing_opened:
    xor %eax, %eax
    ret
end dlopen

#elif defined(__aarch64__)

// "bti c", which older processors take for nothing: an indirect call may land here.
#define LANDING hint #34

.macro keeping_arguments callee
    stp x29, x30, [sp, #-32]!
    .cfi_def_cfa_offset 32
    .cfi_offset 29, -32
    .cfi_offset 30, -24
    mov x29, sp
    stp x0, x1, [sp, #16]
    bl \callee
    mov x9, x0
    ldp x0, x1, [sp, #16]
    ldp x29, x30, [sp], #32
    .cfi_restore 29
    .cfi_restore 30
    .cfi_def_cfa_offset 0
.endm

// x16 may hold the target of a jump to a function that begins with "bti c".
.macro jump_to_real pointer
    adrp x16, \pointer
    ldr x16, [x16, :lo12:\pointer]
    cbnz x16, 1f
    keeping_arguments mw_doors_init
    adrp x16, \pointer
    ldr x16, [x16, :lo12:\pointer]
    cbz x16, 2f
1:  br x16
2:  mov x0, xzr
    ret
.endm

function dlsym
    LANDING
    cmn x0, #1
    b.eq .Lreal_dlsym
    cbz x1, .Lreal_dlsym
    ldrb w9, [x1]
    cmp w9, #'c'
    b.ne .Lreal_dlsym
    ldrb w9, [x1, #1]
    cmp w9, #'u'
    b.ne .Lreal_dlsym
    ldrb w9, [x1, #2]
    cmp w9, #'d'
    b.ne .Lcapital
    ldrb w9, [x1, #3]
    cmp w9, #'a'
    b.ne .Lreal_dlsym
    ldrb w9, [x1, #4]
.Lcapital:
    sub w9, w9, #'A'
    cmp w9, #'Z' - 'A'
    b.hi .Lreal_dlsym
    cbnz x0, .Lwith_handle
    keeping_arguments .Lnobody_has
    tbnz w9, #0, .Lnothing
.Lreal_dlsym:
    jump_to_real mw_real_dlsym
.Lwith_handle:
    b mw_doors_dlsym
.Lnothing:
    mov x0, xzr
    ret
.Lnobody_has:
    mov x0, x1
    b mw_doors_nobody_has
end dlsym

function dlopen
    LANDING
    tbz w1, #3, .Lreal_dlopen
    keeping_arguments mw_doors_deepbind
    mov w1, w9
.Lreal_dlopen:
    jump_to_real mw_real_dlopen
end dlopen

// The whole library is marked for branch target identification only if this file is.
#ifdef __ARM_FEATURE_BTI_DEFAULT
    .section .note.gnu.property, "a"
    .p2align 3
    .long 4, 16, 5
    .asciz "GNU"
    .long 0xc0000000, 4, 1, 0 // GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI
#endif

#else
#error "the doors are written for x86-64 and AArch64"
#endif

    .section .note.GNU-stack, "", %progbits
