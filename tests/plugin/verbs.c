/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * `handlers` and `try` of the real program: command line, exit status, what is said.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

TestSuite(verbs, .timeout = 120);

struct row {
    const char *words; /* for the shell; $W is the program */
    int status;
    const char *said; /* on either output */
};

static const struct row ROWS[] = {
    {"$W handlers", 0, "exec "},
    {"$W handlers", 0, "Logs the facts of each message and acks it."},
    {"$W handlers --json", 0, "\"name\":\"exec\""},
    {"$W handlers exec", 0, "  kill_after           duration  \"1s\" "},
    {"$W handlers exec", 0, "(0s to 1min)"},
    {"$W handlers exec", 0, "  command              strings   (required) "},
    {"$W handlers exec --json", 0, "\"type\":\"duration\",\"required\":false"},
    {"$W handlers --help", 0, "usage: fila-worker handlers"},
    {"$W handlers lgo", 66, "there is no handler of the name \"lgo\"; did you mean log?"},
    {"$W handlers /bin/sh", 66, "it exports no fila_plugin_descriptor"},
    {"$W handlers a b", 64, "unexpected argument \"b\""},
    {"$W handlers --jsno", 64, "--jsno"},

    {"echo hi | $W try --handler log", 0, "payload of 3 bytes, 0 headers, key \"\""},
    {"echo hi | $W try --handler log", 0, "ack in "},
    {"echo hi | $W try --handler log --option payload=2B --header a=b --header c=d --key k -", 0,
     "payload of 3 bytes, 2 headers, key \"k\": hi..."},
    {"$W try --handler exec --option command=true /dev/null", 0, "ack in "},
    {"$W try --handler exec --option command=false /dev/null", 75, "retry in "},
    {"$W try --handler exec --option shell=true --option 'command=exit 65' /dev/null", 65,
     "reject in "},
    {"$W try --handler exec --option shell=true --option 'command=exit 69' /dev/null", 69,
     "unavailable in "},
    {"$W try --handler exec --option shell=true --option 'command=kill -9 $$' /dev/null", 75,
     "retry (crash) in "},
    {"$W try --handler exec --option command=sleep --option command=30 --timeout 400ms /dev/null",
     75, "retry (timeout) in "},
    {"$W try --json --handler exec --option shell=true --option 'command=echo no >&2; exit 65' "
     "/dev/null",
     65,
     "{\"verdict\":\"reject\",\"cause\":\"reject\",\"reason\":\"exit status 65: no\","
     "\"retry_after_ms\":null,\"duration_ms\":"},
    {"$W try --handler exec --option shell=true --attempt 4 --queue q "
     "--option 'command=test $FILA_ATTEMPT$FILA_QUEUE = 4q' /dev/null",
     0, "ack in "},
    {"$W try --handler " TEST_DEFECTS "/NONE.so --option must=x --option answer=3 /dev/null", 69,
     "unavailable in "},
    {"$W try --handler " TEST_DEFECTS "/INIT_FAILS.so --option must=x /dev/null", 66,
     "handler defect: no connection to the moon"},
    {"$W try --handler " TEST_DEFECTS "/OTHER_MAJOR.so /dev/null", 66,
     "abi_major: it is 2, this host's is 1"},
    {"$W try --handler exec --option comand=x /dev/null", 64,
     "option comand: the handler exec has no such option; did you mean command?"},
    {"$W try --handler exec --option command=no-such-program /dev/null", 66,
     "command: cannot use \"no-such-program\": there is no such file"},
    {"$W try --handler log /no/such/file", 66, "/no/such/file: No such file or directory"},
    {"$W try --handler log /tmp", 66, "/tmp: "},
    {"$W try", 64, "either --handler or --config"},
    {"$W try ./a.so", 64, "a handler is named by --handler ./a.so"},
    {"$W try --handler log --option x /dev/null", 64, "--option \"x\" is not KEY=VALUE"},
    {"$W try --handler log --timeout 5 /dev/null", 64, "--timeout: "},
    {"$W try --handler log --attempt 0 /dev/null", 64, "--attempt: it starts at 1"},
    {"$W try --handler log --log-level loud /dev/null", 64, "--log-level is none of"},
    {"$W try --handler log a b", 64, "one message at a time"},
    {"$W try --help", 0, "usage: fila-worker try"},

    {"echo ack out 2 | $W try --handler " TEST_E2E "/publisher.so", 0,
     "publishes to out: payload of 1 bytes, 1 headers"},
    {"echo ack out 1 | $W try --json --header traceparent=t --handler " TEST_E2E "/publisher.so", 0,
     "\"traceparent\":\"t\"},\"payload_bytes\":1,\"payload\":\"0\"}],"
     "\"counters\":{\"published\":1}}"},
    {"echo reject out 1 | $W try --json --handler " TEST_E2E "/publisher.so", 65,
     "\"published\":[],\"counters\":{\"published\":1}}"},
    {"echo ack out 2 | $W try --isolation process --handler " TEST_E2E "/publisher.so", 0,
     "publishes to out: payload of 1 bytes, 1 headers"},

#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__)
    /* A plugin of ABI 1.1, as it was compiled then (kept.c has that of 1.0). */
    {"$W try --json --handler " TEST_KEPT "/abi-1.1.x86_64.so --payload hello", 0,
     "\"published\":[{\"queue\":\"out\",\"headers\":{\"from\":\"try\",\"empty\":\"\"},"
     "\"payload_bytes\":5,\"payload\":\"hello\"}],\"counters\":{\"copies\":3}}"},
    {"$W try --isolation process --handler " TEST_KEPT "/abi-1.1.x86_64.so --payload hello", 0,
     "publishes to out: payload of 5 bytes, 2 headers"},
#endif

    /* Payloads. */
    {"$W try --handler log --option payload=9B --payload 'a b'", 0, "key \"\": a b"},
    {"$W try --handler log --payload ''", 0, "payload of 0 bytes"},
    {"$W try --handler log --payload x y", 64, "either --payload or a FILE, and not both"},
    {"head -c 100000 /dev/zero | $W try --handler log", 0, "payload of 100000 bytes"},
    {"head -c 100000 /dev/zero | $W try --isolation process --handler exec --option command=sh "
     "--option command=-c --option 'command=test `wc -c` = 100000'",
     0, "ack in "},

    /* In a child: as a worker runs it, so that what kills the child is a verdict. */
    {"$W try --isolation process --handler log --payload x --key k", 0,
     "payload of 1 bytes, 0 headers, key \"k\""},
    {"$W try --isolation process --handler exec --option shell=true --attempt 4 --queue q "
     "--header a=b --option 'command=test $FILA_ATTEMPT$FILA_QUEUE$FILA_HEADER_A = 4qb' /dev/null",
     0, "ack in "},
    {"$W try --isolation process --handler " TEST_BAD
     "/CRASH_HANDLE.so --option must=x --payload x",
     75, "retry (crash) in "},
    {"$W try --isolation process --handler " TEST_BAD
     "/CRASH_HANDLE.so --option must=x --payload x",
     75, "the handler crashed: SIGSEGV at address 0x0, in handle+0x"},
    {"$W try --isolation process --handler " TEST_BAD "/EXITS.so --option must=x --payload x", 75,
     "the handler's process ended itself with status 3"},
    {"$W try --isolation process --timeout 1s --handler " TEST_BAD
     "/HANG_HANDLE.so --option must=x --payload x",
     75, "retry (timeout) in "},
    {"$W try --isolation process --handler " TEST_BAD "/CRASH_INIT.so --option must=x --payload x",
     66, "the handler crashed: SIGSEGV at address 0x0"},
    {"$W try --isolation process --handler " TEST_DEFECTS
     "/INIT_FAILS.so --option must=x /dev/null",
     66, "no connection to the moon"},
    {"$W try --isolation process --handler exec --option comand=x /dev/null", 64,
     "option comand: the handler exec has no such option; did you mean command?"},
    {"$W try --isolation process --handler lgo /dev/null", 66, "did you mean log?"},
    {"$W try --isolation child --handler log /dev/null", 64,
     "--isolation is neither threads nor process: \"child\""},
    {"$W try --gdb --isolation process --handler log /dev/null", 64, "not into a child"},
    {"$W try --config $CFG --queue four --payload x", 75, "the handler crashed: SIGSEGV"},
    {"$W try --config $CFG --queue four --isolation process --payload x", 75, "SIGSEGV"},

    /* What is said of it. */
    {"$W try --json --handler " TEST_DEFECTS "/NONE.so --option must=x --payload x", 0,
     "{\"verdict\":\"ack\",\"cause\":null,\"reason\":null,\"retry_after_ms\":null,"
     "\"duration_ms\":"},

    {"$W plugin info log", 0, "abi          1.1"},
    {"$W plugin info exec", 0, "  kill_after           duration  \"1s\" "},
    {"$W plugin info exec --json", 0, "{\"name\":\"kill_after\",\"type\":\"duration\","},
    {"$W plugin info log --json", 0, "\"slots\":[\"init\",\"handle\",\"close\"]"},
    {"$W plugin info " TEST_DEFECTS "/OTHER_MAJOR.so", 66, "abi_major: it is 2"},
    {"$W plugin info", 64, "it takes one file"},
    {"$W plugin verify log", 0, "0 errors, 0 warnings"},
    {"$W plugin verify --json log", 0,
     "\"errors\":0,\"warnings\":0,\"checks\":[{\"check\":\"file\""},
    {"$W plugin verify exec", 66, "option command: it is missing"},
    {"$W plugin verify --option command=true exec", 0, "messages on 4 threads, an instance each"},
    {"$W plugin verify " TEST_DEFECTS "/INIT_FAILS.so --option must=x", 66,
     "error: init-fails (life): time 1: handler defect: no connection to the moon"},
    {"$W plugin verify --message /no/such/file log", 66, "/no/such/file: No such file"},
    {"$W plugin verify --limit 5 log", 64, "--limit: "},
    {"$W plugin verify", 64, "it takes one file"},
    {"$W plugin verify --help", 0, "usage: fila-worker plugin verify"},
    {"$W plugin frobnicate", 64, "it takes info or verify"},
    {"$W plugin --help", 0, "usage: fila-worker plugin info"},

    {"$W try --config $CFG --queue one /dev/null", 0, "prefix of one: payload of 0 bytes"},
    {"$W try --config $CFG --queue two /dev/null", 65, "reject in "},
    {"$W try --config $CFG --queue three /dev/null", 64, "has no queue \"three\""},
    {"$W try --config $CFG /dev/null", 64, "several queues: which one?"},
    {"$W try --config /no/such.cfg --queue a /dev/null", 78, "/no/such.cfg"},
    {"$W try --config $BAD --queue one /dev/null", 78, "prefx"},

    /* A signal ends the command too, and the message is not done. */
    {"$W try --handler exec --option shell=true --option 'command=kill -INT $PPID; sleep 30' "
     "/dev/null",
     75, "stopped by the worker after "},
};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    (void)fclose(file);
}

Test(verbs, say_what_they_should_and_exit_so)
{
    char folder[] = "/tmp/fila-verbs-XXXXXX";
    char path[64];
    cr_assert_not_null(mkdtemp(folder));
    (void)setenv("W", TEST_WORKER, 1);
    (void)snprintf(path, sizeof path, "%s/good.cfg", folder);
    write_file(
        path,
        "broker = \"grpc://localhost:1\";\n"
        "queues = ( { queue = \"one\"; handler = { plugin = \"log\"; prefix = \"prefix of one: \"; }; },\n"
        "  { queue = \"two\"; handler = { plugin = \"exec\"; command = [ \"sh\", \"-c\", \"exit 65\" ]; }; },\n"
        "  { queue = \"four\"; isolation = \"process\"; handler = { plugin = \"" TEST_BAD
        "/CRASH_HANDLE.so\"; must = \"x\"; }; } );\n");
    (void)setenv("CFG", path, 1);
    (void)snprintf(path, sizeof path, "%s/bad.cfg", folder);
    write_file(
        path,
        "broker = \"grpc://localhost:1\";\n"
        "queues = ( { queue = \"one\"; handler = { plugin = \"log\"; prefx = \"x\"; }; } );\n");
    (void)setenv("BAD", path, 1);
    for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
        char command[2048];
        static char said[65536];
        (void)snprintf(command, sizeof command, "{ %s; } 2>&1", ROWS[i].words);
        FILE *pipe = popen(command, "r");
        cr_assert_not_null(pipe);
        size_t len = fread(said, 1, sizeof said - 1, pipe);
        said[len] = '\0';
        int status = pclose(pipe);
        cr_expect_eq(
            WEXITSTATUS(status), ROWS[i].status, "%s: %d\n%s", ROWS[i].words, status, said);
        cr_expect_not_null(strstr(said, ROWS[i].said), "%s:\n%s", ROWS[i].words, said);
    }
    (void)snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
}
