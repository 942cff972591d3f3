#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""The layout of everything in fila/plugin.h, in C and in C++, must be that of the golden file.

    layout.py HEADER-FOLDER GOLDEN [--write]

Writes a program that prints size of each struct, offset and size of each field (taken from the header's own text, so that none can
be forgotten) and the value of each constant, compiles it as C11 and as C++17, and compares what both print. Within a major only
lines at the end of a struct may be added: then the golden file is written anew with --write, and the change reviewed.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

STRUCT = re.compile(r"typedef struct (\w+) \{(.*?)\n\} \1;", re.S)
CONSTANT = re.compile(r"^#define (FILA_\w+)[ \t]+(?:0x[0-9a-f]+|\d+)u?\b", re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def fields(body):
    for declaration in body.split(";"):
        if declaration.strip():
            found = re.search(r"\(\*(\w+)\)\s*\(", declaration) or re.search(r"(\w+)\s*$", declaration)
            yield found[1]


def program(header):
    text = without_comments(header)
    lines = ['#include <fila/plugin.h>', '#include <stdio.h>', 'int main(void)', '{']
    structs = STRUCT.findall(text)
    if len(structs) != len(re.findall(r"^typedef struct", text, re.M)):
        sys.exit("a struct of the header is not of the usual form")
    for name, body in structs:
        lines.append('    printf("%s %%zu\\n", sizeof(%s));' % (name, name))
        for field in fields(body):
            lines.append('    printf("  %s.%s %%zu %%zu\\n", offsetof(%s, %s), sizeof(((%s *)0)->%s));'
                         % (name, field, name, field, name, field))
    for name in CONSTANT.findall(text):
        lines.append('    printf("%s %%llu\\n", (unsigned long long)%s);' % (name, name))
    lines += ['    printf("symbol %s\\n", FILA_PLUGIN_SYMBOL);', '    return 0;', '}', '']
    return "\n".join(lines)


def layout(source, compiler, flags, include, folder):
    binary = os.path.join(folder, "layout")
    subprocess.run([*compiler, *flags, "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-I", include, "-o", binary, source],
                   check=True)
    return subprocess.run([binary], stdout=subprocess.PIPE, text=True, check=True).stdout


def main():
    include, golden = sys.argv[1:3]
    with open(os.path.join(include, "fila", "plugin.h"), encoding="utf-8") as file:
        text = program(file.read())
    with tempfile.TemporaryDirectory() as folder:
        printed = {}
        for compiler, suffix, flags in ((["cc"], "c", ["-std=c11"]), (["c++"], "cc", ["-std=c++17"])):
            if shutil.which(compiler[0]):
                source = os.path.join(folder, "layout." + suffix)
                with open(source, "w", encoding="utf-8") as file:
                    file.write(text)
                printed[suffix] = layout(source, compiler, flags, include, folder)
    if "c" not in printed or len(set(printed.values())) != 1:
        sys.exit("C and C++ do not agree, or there is no C compiler:\n%r" % printed)
    if sys.argv[3:] == ["--write"]:
        with open(golden, "w", encoding="utf-8") as file:
            file.write(printed["c"])
        return
    with open(golden, encoding="utf-8") as file:
        wanted = file.read()
    if printed["c"] != wanted:
        lines, known = printed["c"].splitlines(), wanted.splitlines()
        gone = ["- " + line for line in known if line not in lines]
        new = ["+ " + line for line in lines if line not in known]
        sys.exit("the layout of fila/plugin.h is not that of %s:\n%s" % (golden, "\n".join(gone + new)))
    print("%d lines, the same in %s" % (len(wanted.splitlines()), " and ".join(printed)))


main()
