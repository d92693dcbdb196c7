// SPDX-License-Identifier: Apache-2.0
//
// The languages that texts for people come in. Identifiers, JSON keys and units stay English.
#ifndef KNOWLEDGE_LANGUAGE_H
#define KNOWLEDGE_LANGUAGE_H

enum language { LANGUAGE_EN, LANGUAGE_ZH };
#define LANGUAGES 2

#endif
