// SPDX-License-Identifier: Apache-2.0
//
// What the program writes to standard error, kept in the ledger. See messages.c.
#ifndef MEMWATCH_MESSAGES_H
#define MEMWATCH_MESSAGES_H

void mw_messages_init(void);  // from the constructor: finds the real write and writev
void mw_messages_begin(void); // for a new ledger: makes its ring. Nobody may be using the old one

#endif
