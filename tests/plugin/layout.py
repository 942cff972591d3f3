#!/usr/bin/env python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""The layout of everything in a public header, in C and in C++, must be that of its golden file.

    layout.py HEADER GOLDEN [--write]

HEADER is like .../include/fila/plugin.h. Writes a program that prints size of each struct, offset and size of each field (taken
from the header's own text, so that none can be forgotten; those of unions and structs inside it, too) and the value of each
constant, compiles it as C11 and as C++17, and compares what both print. Within a major only lines at the end of a struct may be
added: then the golden file is written anew with --write, and the change reviewed.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

STRUCT = re.compile(r"typedef struct (\w+) \{(.*?)\n\} \1;", re.S)
ENUM = re.compile(r"typedef enum (\w+) \{(.*?)\n\} \1;", re.S)
CONSTANT = re.compile(r"^#define (FILA_\w+)[ \t]+(?:0x[0-9a-f]+|\d+)u?\b", re.M)
TEXT = re.compile(r'^#define (FILA_\w+)[ \t]+"', re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def declarations(body):
    """Split at the semicolons that are in no braces."""
    depth, start = 0, 0
    for at, char in enumerate(body):
        depth += (char == "{") - (char == "}")
        if char == ";" and depth == 0:
            yield body[start:at].strip()
            start = at + 1
    if body[start:].strip():
        sys.exit("a declaration without an end: " + body[start:])


def fields(body, prefix=""):
    for declaration in declarations(body):
        nested = re.fullmatch(r"(?:struct|union) \{(.*)\} (\w+)", declaration, re.S)
        if nested:
            yield prefix + nested[2]
            yield from fields(nested[1], prefix + nested[2] + ".")
            continue
        found = re.search(r"\(\*(\w+)\)\s*\(", declaration) or re.search(r"(\w+)\s*(?:\[\w+\])?$", declaration)
        yield prefix + found[1]


def program(header, name):
    text = without_comments(header)
    lines = ['#include <fila/%s>' % name, '#include <stddef.h>', '#include <stdio.h>', 'int main(void)', '{']
    structs = STRUCT.findall(text)
    if len(structs) != len(re.findall(r"^typedef struct.*\{$", text, re.M)):
        sys.exit("a struct of the header is not of the usual form")
    for struct, body in structs:
        lines.append('    printf("%s %%zu\\n", sizeof(%s));' % (struct, struct))
        for field in fields(body):
            lines.append('    printf("  %s.%s %%zu %%zu\\n", offsetof(%s, %s), sizeof(((%s *)0)->%s));'
                         % (struct, field, struct, field, struct, field))
    enums = ENUM.findall(text)
    if len(enums) != len(re.findall(r"^typedef enum", text, re.M)):
        sys.exit("an enum of the header is not of the usual form")
    values = [value for _, body in enums for value in re.findall(r"^\s*(FILA_\w+)", body, re.M)]
    for value in values + CONSTANT.findall(text):
        lines.append('    printf("%s %%llu\\n", (unsigned long long)%s);' % (value, value))
    for value in TEXT.findall(text):
        lines.append('    printf("%s %%s\\n", %s);' % (value, value))
    lines += ['    return 0;', '}', '']
    return "\n".join(lines)


def layout(source, compiler, flags, include, folder):
    binary = os.path.join(folder, "layout")
    subprocess.run([*compiler, *flags, "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-I", include, "-o", binary, source],
                   check=True)
    return subprocess.run([binary], stdout=subprocess.PIPE, text=True, check=True).stdout


def main():
    header, golden = sys.argv[1:3]
    name = os.path.basename(header)
    include = os.path.dirname(os.path.dirname(header))
    with open(header, encoding="utf-8") as file:
        text = program(file.read(), name)
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
        sys.exit("the layout of fila/%s is not that of %s:\n%s" % (name, golden, "\n".join(gone + new)))
    print("%d lines, the same in %s" % (len(wanted.splitlines()), " and ".join(printed)))


main()
