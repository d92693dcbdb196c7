// SPDX-License-Identifier: Apache-2.0
//
// The file that bundled.c reads.
    .section .rodata
    .globl knowledge_bundle, knowledge_bundle_end
knowledge_bundle:
    .incbin "knowledge/records.bundle"
knowledge_bundle_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
