// SPDX-License-Identifier: Apache-2.0
//
// memwatch: finds the subcommand and prints what there is.
#include "memwatch.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*function)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", cmd_run, "run a program with GPU memory recorded"},
    {"report", cmd_report, "show what was recorded: of a file, a folder, a process"},
    {"doctor", cmd_doctor, "tell what would be seen of a program on this machine, and why"},
    {"diagnose", cmd_diagnose, "say which known errors are in a log, and what helps"},
    {"explain", cmd_explain, "say what an impossible number or a message really means"},
    {"kb", cmd_kb, "check, list, show and search what is known about errors"},
    {"monitor", cmd_monitor, "wait for a process and report (started by the library)"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const struct {
    enum exit_code code;
    const char *meaning;
} codes[] = {
    {EXIT_OK, "all is well"},
    {EXIT_FINDING, "a check did not hold, or doctor found a problem"},
    {EXIT_USAGE, "wrong usage"},
    {EXIT_DAMAGED, "a file is unreadable, damaged, not ours or of another version"},
    {EXIT_NOTHING, "there is nothing to report"},
    {EXIT_RUN_FAILED, "run: memwatch itself failed"},
    {EXIT_NOT_EXECUTABLE, "run: the program cannot be executed"},
    {EXIT_NOT_FOUND, "run: the program was not found"},
};
#define CODES (sizeof codes / sizeof codes[0])

// What the library reads from its environment, as options.def has it.
static const struct {
    const char *variable, *help;
} variables[] = {
#define OPTION(id, variable, kind, otherwise, help) {variable, help},
#include "../interpose/options.def"
#undef OPTION
};
#define VARIABLES (sizeof variables / sizeof variables[0])

// `text` in lines of 80 columns, from column `indent` on, where the cursor is.
static void print_folded(const char *text, size_t indent) {
    size_t room = 80 - indent;
    while (strlen(text) > room) {
        size_t n = room;
        while (n && text[n] != ' ') n--;
        if (!n) break;
        printf("%.*s\n%*s", (int)n, text, (int)indent, "");
        text += n + 1;
    }
    printf("%s\n", text);
}

static int print_help(void) {
    puts("Usage: memwatch COMMAND [ARGUMENT]...\n"
         "\n"
         "A flight recorder for GPU memory.\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    puts("\n  --help, -h     this text; memwatch COMMAND --help for each command's\n"
         "  --version, -V  the version\n"
         "\n"
         "The library reads these from the watched program's environment:\n");
    for (size_t i = 0; i < VARIABLES; i++) {
        printf("  %-22s ", variables[i].variable);
        print_folded(variables[i].help, 25);
    }
    puts("\nExit status:\n");
    for (size_t i = 0; i < CODES; i++) printf("  %3d  %s\n", codes[i].code, codes[i].meaning);
    puts("\n`memwatch run` ends as the program does: with its code, or by the same signal.");
    return EXIT_OK;
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) return print_help();
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        puts("memwatch " MEMWATCH_VERSION);
        return EXIT_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(word, commands[i].name) != 0) continue;
        if (argc > 2 && !strcmp(argv[2], "--version")) {
            puts("memwatch " MEMWATCH_VERSION);
            return EXIT_OK;
        }
        return commands[i].function(argc - 1, argv + 1);
    }
    return fail(EXIT_USAGE,
                *word ? "no command '%s'; see `memwatch --help`"
                      : "a command is needed%s; see `memwatch --help`",
                word);
}
