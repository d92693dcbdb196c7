// SPDX-License-Identifier: Apache-2.0
// links: knowledge/roles.c knowledge/number.c knowledge/counters.c
//
// What each number of a message counts is told from the words around it, whether they come before
// the number or after it.
#include "../../knowledge/roles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void roles_are_read_from_real_messages(void **state) {
    (void)state;
    static const struct {
        const char *text, *roles; // in the order of the numbers, each with a blank behind it
    } cases[] = {
        {"MPS backend out of memory (MPS allocated: 1.49 GiB, other allocations: 67108914.49 GiB, "
         "max allowed: 30.19 GiB). Tried to allocate 9.19 MiB on private pool.",
         "allocated other limit request "},
        {"CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total capacity; 5.20 "
         "GiB "
         "already allocated; 16.06 MiB free; 5.41 GiB reserved in total by PyTorch)",
         "request count total allocated free reserved "},
        {"CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacty of 79.15 GiB "
         "of "
         "which 12.00 MiB is free. Process 17 has 17179869184.00 GiB memory in use. Of the "
         "allocated memory 75.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch "
         "but unallocated.",
         "request count total free count used allocated reserved "},
        {"Tried to allocate more than 1EB memory.", "request+ "},
        {"Out of memory allocating 1,234 bytes (allocated so far: 56 bytes, limit set to: 78 "
         "bytes).",
         "request allocated limit "},
        {"memory limit: 18446744073709551615 arena_extend_strategy: 0", "limit limit "},
        {"used 22 GiB, total 24 GiB", "used total "},
        {"22 GiB used, 24 GiB total", "used total "},
        {"22 GiB used and 2 GiB free", "used free "},
        {"epoch 3 loss 0.5", "count bytes "},
        {"unallocated 5 GiB", "bytes "},
        {"5", "bytes "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        size_t length = strlen(text), taken;
        char roles[256] = "";
        struct number n;
        for (size_t at = 0; (at = number_find(text, length, at, &n, &taken)) < length;
             at += taken) {
            bool at_least;
            enum counter_role role = roles_guess(text, length, at, taken, &at_least);
            strcat(strcat(strcat(roles, counters_role_name(role)), at_least ? "+" : ""), " ");
        }
        assert_string_equal(roles, cases[i].roles);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles_are_read_from_real_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
