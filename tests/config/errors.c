/* SPDX-License-Identifier: AGPL-3.0-or-later
 *
 * Every kind of mistake in a config file, its environment and its command line: a row each with all
 * that is said about it, exactly. One line per diagnostic: "LINE:COLUMN error|warning KEY: TEXT",
 * with the file's name before it when it is not the main file.
 */
#include "rows.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

/* One queue that is fine, in one line. */
#define Q "queues = ( { queue = \"a\"; handler = { plugin = \"log\"; }; } );\n"
/* The same with more keys in it; they start in column 26. */
#define QWITH(keys) "queues = ( { queue = \"a\"; " keys " handler = { plugin = \"log\"; }; } );\n"
/* With options of the handler; they start in column 54. */
#define HWITH(options) \
    "queues = ( { queue = \"a\"; handler = { plugin = \"log\"; " options " }; } );\n"

static const struct config_row SYNTAX[] = {
    {"fine", Q, ""},
    {"fine without semicolons", "queues = ( { queue = \"a\" handler = { plugin = \"log\" } } )",
     ""},
    {"fine with colons, commas and comments",
     "# one\n// two\n/* three\n */ queues : ( { queue : \"a\", handler : { plugin : \"log\" } } )",
     ""},
    {"a comment as the last line, without its end", Q "# end", ""},
    {"text over lines, joined text", HWITH("script = \"one\n two\"; long = \"a\" /* and */ \"b\";"),
     ""},
    {"empty", "",
     "0:0 error queues: no queue to consume: add queues = ( { queue = \"NAME\"; handler "
     "= { plugin = \"log\"; }; } );\n"},
    {"trailing comma in a list",
     "queues = (\n  { queue = \"a\"; handler = { plugin = \"log\"; }; },\n);",
     "2:50 error : remove this comma: the last item of a list has none after it\n"},
    {"trailing comma in an array", "broker = [ \"grpc://a\", ];",
     "1:22 error : remove this comma: the last item of a list has none after it\n"},
    {"byte-order mark", "\xef\xbb\xbf" Q,
     "1:0 error : the file starts with a byte-order mark: save it as UTF-8 without one (BOM)\n"},
    {"UTF-16", "\xff\xfeq\x01u", "1:0 error : the file is UTF-16: save it as UTF-8\n"},
    {"Latin-1", "# fine\n# gr\xfc\xdf\n" Q, "2:0 error : this line is not UTF-8\n"},
    {"text that is not closed on its line", "broker = \"grpc://x:1;\napi_key = \"abc\";\n" Q,
     "1:10 error : the text that starts here is not closed on its line: a quote is missing\n"},
    {"the same, first of two that are adjacent", "broker = \"grpc://x:1;\nstate_dir = \"/x\";\n" Q,
     "1:10 error : the text that starts here is not closed on its line: a quote is missing\n"},
    {"text that is never closed", Q "broker = \"grpc://x:1;\n",
     "2:10 error : the text that starts here is never closed: a quote is missing\n"},
    {"a quote too many", "broker = \"grpc://x:1\"\";\n" Q,
     "1:10 error : the text that starts here is not closed on its line: a quote is missing\n"},
    {"text that is not closed, all on one line",
     "queues = ( { queue = \"a; handler = { plugin = \"log\"; level = \"info\"; }; } );",
     "1:22 error : a quote is missing in or after the text that starts here\n"},
    {"the same, with a path after it", "state_dir = \"a; broker = \"grpc://x:1\";\n" Q,
     "1:13 error : a quote is missing in or after the text that starts here\n"},
    {"text over lines is not blamed for what comes later", HWITH("script = \"one\n two\"; x = 5s;"),
     "2:12 error : text is written in quotes: \"5s\" (a number with a unit is text)\n"},
    {"comment that is never closed", Q "\n  /* broker\n",
     "3:3 error : this comment is never closed\n"},
    {"word without quotes", "broker = grpc://localhost:5555;\n" Q,
     "1:10 error : text is written in quotes: \"grpc://localhost:5555\"\n"},
    {"choice without quotes", QWITH("dead_letter = drop;"),
     "1:41 error : text is written in quotes: \"drop\"\n"},
    {"duration without quotes", "drain_timeout = 25s;\n" Q,
     "1:17 error : text is written in quotes: \"25s\" (a number with a unit is text)\n"},
    {"size without quotes", QWITH("prefetch_bytes = 64MiB;"),
     "1:44 error : text is written in quotes: \"64MiB\" (a number with a unit is text)\n"},
    {"version number without quotes", HWITH("version = 1.2.3;"),
     "1:65 error : text is written in quotes: \"1.2.3\" (a number with a unit is text)\n"},
    {"number with a unit in a list", HWITH("pauses = ( 5s, 6s );"),
     "1:66 error : text is written in quotes: \"5s\" (a number with a unit is text)\n"},
    {"path without quotes", HWITH("file = ./x;"),
     "1:62 error : text is written in quotes: \"./x\" (a number with a unit is text)\n"},
    {"single quotes", "broker = 'grpc://a';\n" Q,
     "1:10 error : text takes double quotes, not single ones\n"},
    {"name in quotes", "\"broker\" = \"grpc://a\";\n" Q,
     "1:1 error : the name of a key is written without quotes\n"},
    {"no = before a value", "broker \"grpc://a\";\n" Q,
     "1:8 error : syntax error: expected `=` after \"broker\", found a text in quotes\n"},
    {"no = before a group", "tls { ca = \"x\"; };\n" Q,
     "1:5 error : syntax error: expected `=` after \"tls\", found `{`\n"},
    {"no value", "broker = ;\n" Q, "1:10 error : the value is missing\n"},
    {"file ends before a value",
     Q "broker =", "2:9 error : syntax error: expected a value, found the end of the file\n"},
    {"two semicolons", "max_running = 5;;\n" Q, "1:17 error : one `;` too many\n"},
    {"group in an array", "broker = [ { a = 1; } ];\n" Q,
     "1:12 error : [ ] takes plain values only; a list of groups is written ( { ... }, { ... } )\n"},
    {"mixed array", HWITH("x = [ 1, \"b\" ];"),
     "1:64 error : the items of [ ] must be of one type; ( ) takes a mixed list\n"},
    {"no comma between groups",
     "queues = (\n { queue = \"a\"; handler = { plugin = \"log\"; }; }\n { queue = \"b\"; } );",
     "3:2 error : a comma is missing before this item\n"},
    {"no comma between numbers", HWITH("x = ( 1 2 );"),
     "1:63 error : a comma is missing before this item\n"},
    {"no comma between texts", "broker = ( \"grpc://a\" \"grpc://b\" );\n" Q,
     "1:10 error broker: not an address: write grpc://HOST:PORT\n"
     "1:23 warning : no comma between \"grpc://a\" and \"grpc://b\": they are read as one text\n"},
    {"semicolon in a list", "queues = ( { queue = \"a\"; handler = { plugin = \"log\"; }; }; );",
     "1:59 error : remove this semicolon: the items of a list have commas between them\n"},
    {"group that is not closed",
     "queues = (\n { queue = \"a\"; handler = { plugin = \"log\"; };\n);",
     "3:1 error : syntax error: found `)` where the `{` of line 2 needs its `}`\n"},
    {"list that is not closed", "queues = ( { queue = \"a\"; handler = { plugin = \"log\"; }; }\n",
     "1:10 error : this `(` is never closed: a `)` is missing\n"},
    {"group that is not closed at the end", "tls = { ca = \"x\";",
     "1:7 error : this `{` is never closed: a `}` is missing\n"},
    {"bracket that closes nothing", Q "};", "2:1 error : this `}` closes nothing\n"},
    {"strange character", "broker = %;\n" Q,
     "1:10 error : syntax error: expected a value, found `%`\n"},
    {"control character", "broker \v= \"grpc://a\";\n" Q,
     "1:8 error : syntax error: expected `=` after \"broker\", found the byte 0x0b\n"},
    {"too deep", "a=((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))));",
     "1:34 error : more than 31 brackets inside each other\n"},
    {"duplicate key", "max_running = 1;\n" Q "max_running = 2;\n",
     "3:1 error : \"max_running\" is set a second time; first on line 1\n"},
    {"duplicate key in a queue", QWITH("rate = 1;\nrate = 2;"),
     "2:1 error : \"rate\" is set a second time; first on line 1\n"},
    {"the same key in two groups is none",
     "tls = { ca = \"\"; };\nlog = { level = \"info\"; };\n" Q, ""},
    {"@include", "@include \"more.cfg\"\n" Q,
     "1:1 error : @include is not taken; write include = \"conf.d/*.cfg\"; each file that it names "
     "adds its queues\n"},
    {"@include of a folder, which would end the program", "  @include \"/tmp\"\n" Q,
     "1:3 error : @include is not taken; write include = \"conf.d/*.cfg\"; each file that it names "
     "adds its queues\n"},
    {"@ in text and comments is nothing", "# @include \"/tmp\"\n" HWITH("to = \"me@example\";"),
     ""},
    {"number over 32 bits", "max_running = 4294967297;\n" Q,
     "1:15 error : 4294967297 does not fit 32 bits: write 4294967297L\n"},
    {"hexadecimal over 31 bits", HWITH("x = 0xffffffff;"),
     "1:59 error : 0xffffffff does not fit 32 bits: write 0xffffffffL\n"},
    {"number over 64 bits", HWITH("x = 99999999999999999999L;"),
     "1:59 error : 99999999999999999999L does not fit 64 bits\n"},
    {"\\x00 in text", "broker = \"grpc://a\\x00b\";\n" Q,
     "1:10 error : \\x00 would end the text\n"},
    {"\\\\x00 is no escape", HWITH("x = \"\\\\x00\";"), ""},
};

static const struct config_row KEYS[] = {
    {"unknown key", "frobnicate = 1;\n" Q, "1:1 error frobnicate: unknown key\n"},
    {"slip in a key", "brokr = \"grpc://a\";\n" Q,
     "1:1 error brokr: unknown key; did you mean \"broker\"?\n"},
    {"letters swapped", QWITH("visibility_tiemout = \"30s\";"),
     "1:27 error queues[0].visibility_tiemout: unknown key; did you mean \"visibility_timeout\"?\n"},
    {"slip in a group", QWITH("retry = { atempts = 3; };"),
     "1:37 error queues[0].retry.atempts: unknown key; did you mean \"retry.attempts\"?\n"},
    {"key without its group", QWITH("attempts = 3;"),
     "1:27 error queues[0].attempts: unknown key; did you mean \"retry.attempts\"?\n"},
    {"slip in a group's name", "htpp = { listen = \"\"; };\n" Q,
     "1:1 error htpp: unknown key; did you mean \"http\"?\n"},
    {"key of a queue at the top", "timeout = \"5s\";\n" Q,
     "1:1 error timeout: unknown key here; it belongs into an entry of `queues`\n"},
    {"key of the top in a queue", QWITH("tls = { };"),
     "1:27 error queues[0].tls: unknown key here; it belongs to the top of the file\n"},
    {"group instead of a list", "queues = { queue = \"a\"; };",
     "1:10 error queues: expected a list of groups: queues = ( { ... } );, found a group { }\n"},
    {"item that is no group", "queues = ( \"a\" );",
     "1:12 error queues[0]: expected a group { queue = \"...\"; handler = { ... }; }, found text\n"},
    {"no queue in a list", "queues = ( );",
     "0:0 error queues: no queue to consume: add queues = ( { queue = \"NAME\"; handler = { plugin = "
     "\"log\"; }; } );\n"},
    {"no name, no handler", "queues = ( { } );",
     "1:12 error queues[0]: `queue` is missing: the name of the queue to consume\n"
     "1:12 error queues[0]: `handler` is missing: handler = { plugin = \"...\"; };\n"},
    {"empty name", "queues = ( { queue = \"\"; handler = { plugin = \"log\"; }; } );",
     "1:22 error queues[0].queue: must not be empty\n"},
    {"name that is not UTF-8",
     "queues = ( { queue = \"\\xff\"; handler = { plugin = \"log\"; }; } );",
     "1:22 error queues[0].queue: is not UTF-8\n"},
    {"handler as text", "queues = ( { queue = \"a\"; handler = \"log\"; } );",
     "1:37 error queues[0].handler: expected a group: handler = { plugin = \"...\"; };, found text\n"},
    {"handler without plugin", "queues = ( { queue = \"a\"; handler = { command = \"x\"; }; } );",
     "1:37 error queues[0].handler: plugin is missing: the name of a shipped handler, or the path of "
     "a shared object\n"},
    {"empty plugin", "queues = ( { queue = \"a\"; handler = { plugin = \"\"; }; } );",
     "1:48 error queues[0].handler.plugin: must not be empty\n"},
    {"plugin as a number", "queues = ( { queue = \"a\"; handler = { plugin = 5; }; } );",
     "1:48 error queues[0].handler.plugin: expected text in quotes, found the number 5\n"},
    {"group among the options", HWITH("env = { A = \"b\"; };"),
     "1:61 error queues[0].handler.env: expected text, a number, a boolean or a list of texts, found "
     "a group { }\n"},
    {"list in a list of an option", HWITH("x = ( 1, ( 2 ) );"),
     "1:64 error queues[0].handler.x: expected text, a number, a boolean or a list of texts, found a "
     "list ( )\n"},
    {"group as a number", "tls = 5;\n" Q,
     "1:7 error tls: expected a group: tls = { ... };, found the number 5\n"},
    {"many at once", "a = 1;\nmax_running = \"x\";\nhttp = { listen = 5; };\n" QWITH("rate = -1;"),
     "1:1 error a: unknown key\n2:15 error max_running: \"x\" is not a whole number\n"
     "3:19 error http.listen: expected text in quotes, found the number 5\n"
     "4:34 error queues[0].rate: -1 is out of range: 0 to 1000000\n"},
};

static const struct config_row VALUES[] = {
    {"text as a number", "state_dir = 5;\n" Q,
     "1:13 error state_dir: expected text in quotes, found the number 5\n"},
    {"text as a boolean", "state_dir = true;\n" Q,
     "1:13 error state_dir: expected text in quotes, found true\n"},
    {"text as a list", "state_dir = ( \"a\" );\n" Q,
     "1:13 error state_dir: expected text in quotes, found a list ( )\n"},
    {"count as a boolean", "max_running = TRUE;\n" Q,
     "1:15 error max_running: expected a whole number, found true\n"},
    {"count as a fraction", "max_running = 2.5;\n" Q,
     "1:15 error max_running: expected a whole number, found the number 2.5\n"},
    {"count in quotes", "max_running = \"5\";\n" Q, ""},
    {"count out of range", QWITH("concurrency = 5000;"),
     "1:41 error queues[0].concurrency: 5000 is out of range: 0 to 4096\n"},
    {"count below zero", QWITH("prefetch = -1;"),
     "1:38 error queues[0].prefetch: -1 is out of range: 0 to 100000\n"},
    {"count over 32 bits with its L", "max_running = 4294967297L;\n" Q,
     "1:15 error max_running: 4294967297 is out of range: 0 to 1000000\n"},
    {"count in quotes out of range", QWITH("streams = \"0\";"),
     "1:37 error queues[0].streams: 0 is out of range: 1 to 64\n"},
    {"the ends of a range are in it", QWITH("streams = 64; concurrency = 4096; prefetch = 100000;"),
     ""},
    {"duration without unit", QWITH("timeout = 30;"),
     "1:37 error queues[0].timeout: 30 has no unit: write \"30s\" (ms, s, min or h)\n"},
    {"duration without unit, in quotes", QWITH("timeout = \"30\";"),
     "1:37 error queues[0].timeout: 30 has no unit: write \"30s\" (ms, s, min or h)\n"},
    {"fraction without unit", QWITH("timeout = 0.5;"),
     "1:37 error queues[0].timeout: 0.5 has no unit: write \"0.5s\" (ms, s, min or h)\n"},
    {"duration with a wrong unit", "drain_timeout = \"1m\";\n" Q,
     "1:17 error drain_timeout: unknown unit \"m\": a duration takes ms, s, min or h; did you mean "
     "\"min\"?\n"},
    {"duration as a boolean", "drain_timeout = true;\n" Q,
     "1:17 error drain_timeout: expected a duration such as \"30s\", found true\n"},
    {"duration out of range", QWITH("visibility_timeout = \"10ms\";"),
     "1:48 error queues[0].visibility_timeout: 10ms is out of range: 100ms to 168h\n"},
    {"size without unit", QWITH("prefetch_bytes = 1000000;"),
     "1:44 error queues[0].prefetch_bytes: 1000000 has no unit: write \"1000000MiB\" (B, KiB, MiB or "
     "GiB)\n"},
    {"size out of range", QWITH("prefetch_bytes = \"1KiB\";"),
     "1:44 error queues[0].prefetch_bytes: 1KiB is out of range: 64KiB to 64GiB\n"},
    {"rate as a whole number", QWITH("rate = 5;"), ""},
    {"rate in quotes", QWITH("rate = \"0.5\";"), ""},
    {"rate infinite", QWITH("rate = 1e999;"),
     "1:34 error queues[0].rate: inf is out of range: 0 to 1000000\n"},
    {"rate as text", QWITH("rate = \"fast\";"),
     "1:34 error queues[0].rate: \"fast\" is not a number such as 5 or 0.5\n"},
    {"choice with a slip", "log = { level = \"wran\"; };\n" Q,
     "1:17 error log.level: \"wran\" is not one of \"debug\", \"info\", \"warn\", \"error\" or "
     "\"off\"; did you mean \"warn\"?\n"},
    {"choice unknown", QWITH("isolation = \"container\";"),
     "1:39 error queues[0].isolation: \"container\" is not one of \"threads\" or \"process\"\n"},
    {"isolation in children",
     QWITH("isolation = \"process\"; recycle_messages = 10000; recycle_rss = \"1GiB\";"), ""},
    {"recycling of threads", QWITH("recycle_messages = 5;"),
     "1:46 error queues[0].recycle_messages: it needs isolation = \"process\": threads are not replaced\n"},
    {"stuck threads", QWITH("stuck_limit = 1;"), ""},
    {"stuck children", QWITH("isolation = \"process\"; stuck_limit = 1;"),
     "1:64 error queues[0].stuck_limit: it needs isolation = \"threads\": a child that hangs is killed\n"},
    {"choice as a number", "log = { format = 3; };\n" Q,
     "1:18 error log.format: expected \"auto\", \"text\" or \"json\", found the number 3\n"},
    {"lane unknown", QWITH("one_at_a_time_per = \"user\";"),
     "1:47 error queues[0].one_at_a_time_per: \"user\" is not \"none\", \"fairness_key\" or "
     "\"header:NAME\"\n"},
    {"lane without a header's name", QWITH("one_at_a_time_per = \"header:\";"),
     "1:47 error queues[0].one_at_a_time_per: \"header:\" is not \"none\", \"fairness_key\" or "
     "\"header:NAME\"\n"},
    {"broker as a number", "broker = 5;\n" Q,
     "1:10 error broker: expected text in quotes, or a list of such, found the number 5\n"},
    {"a number among brokers", "broker = ( \"grpc://a\", 5 );\n" Q,
     "1:24 error broker: expected text in quotes, or a list of such, found the number 5\n"},
};

static const struct config_row RELATIONS[] = {
    {"no broker", "broker = ( );\n" Q,
     "1:10 error broker: no broker: write a URL such as \"grpc://localhost:5555\"\n"},
    {"empty broker", "broker = \"\";\n" Q,
     "1:10 error broker: no broker: write a URL such as \"grpc://localhost:5555\"\n"},
    {"broker without scheme", "broker = \"localhost:5555\";\n" Q,
     "1:10 error broker: \"localhost:5555\" has no scheme; did you mean "
     "\"grpc://localhost:5555\"?\n"},
    {"another scheme", "broker = \"http://localhost:5555\";\n" Q,
     "1:10 error broker: \"http://localhost:5555\" is no broker: grpc://HOST:PORT, grpcs://HOST:PORT, "
     "fila://HOST:PORT, filas://HOST:PORT, embedded: or embedded:FILE\n"},
    {"broker without a host", "broker = \"grpc://\";\n" Q,
     "1:10 error broker: not an address: write grpc://HOST:PORT\n"},
    {"broker with a port that is none", "broker = \"grpc://a:99999\";\n" Q,
     "1:10 error broker: not an address: write grpc://HOST:PORT\n"},
    {"a password in the URL is not repeated", "broker = \"grpc://me:secret@host:1\";\n" Q,
     "1:10 error broker: not an address: write grpc://HOST:PORT\n"},
    {"nor without a scheme", "broker = \"me:secret@host\";\n" Q,
     "1:10 error broker: \"***\" is no broker: grpc://HOST:PORT, grpcs://HOST:PORT, "
     "fila://HOST:PORT, filas://HOST:PORT, embedded: or embedded:FILE\n"},
    {"brokers of every form are fine",
     "broker = ( \"grpc://a:1\", \"grpcs://[::1]:2\", \"fila://c\", \"filas://[::1]\", "
     "\"grpc://unix:/tmp/s\", \"grpc://b:1/\" );\n" Q,
     ""},
    {"embedded is fine alone", "broker = \"embedded:/var/lib/f.db?listen=127.0.0.1:5555\";\n" Q,
     ""},
    {"embedded among others", "broker = ( \"grpc://a:1\", \"embedded:\" );\n" Q,
     "1:10 error broker: an embedded broker stands alone: there is nowhere to fail over to\n"},
    {"a broker twice", "broker = ( \"grpc://a:1\", \"grpc://a:1\" );\n" Q,
     "1:10 warning broker: \"grpc://a:1\" is listed twice\n"},
    {"API key with a blank", "api_key = \"two words\";\n" Q,
     "1:11 error api_key: holds a blank or a character that is not ASCII\n"},
    {"certificate without key", "broker = \"grpcs://a:1\";\ntls = { cert = \"x.pem\"; };\n" Q,
     "2:16 error tls.cert: needs tls.key too\n"},
    {"key without certificate", "broker = \"grpcs://a:1\";\ntls = { key = \"x.pem\"; };\n" Q,
     "2:15 error tls.key: needs tls.cert too\n"},
    {"TLS without a TLS URL", "broker = \"grpc://a:1\";\ntls = { ca = \"x.pem\"; };\n" Q,
     "1:10 warning broker: `tls` has no effect on this URL; grpcs:// and filas:// use it\n"},
    {"port without host", "http = { listen = \"8080\"; };\n" Q,
     "1:19 error http.listen: \"8080\" has no host; did you mean \"127.0.0.1:8080\"?\n"},
    {"no address", "http = { listen = \"somewhere\"; };\n" Q,
     "1:19 error http.listen: \"somewhere\" is no address: HOST:PORT, [IPv6]:PORT, or \"\" for none\n"},
    {"port too high", "http = { listen = \"a:65536\"; };\n" Q,
     "1:19 error http.listen: \"a:65536\" is no address: HOST:PORT, [IPv6]:PORT, or \"\" for none\n"},
    {"addresses that are fine", "http = { listen = \"[::1]:0\"; };\n" Q, ""},
    {"any host", "http = { listen = \":8080\"; };\n" Q, ""},
    {"drain too short", "drain_timeout = \"2s\";\n" Q,
     "1:17 error drain_timeout: 2s is too short: it must be over 2s, which are for returning what is "
     "left\n"},
    {"first pause over the longest", QWITH("retry = { first = \"2min\"; };"),
     "1:45 error queues[0].retry.first: retry.first = 2min is over retry.max = 1min\n"},
    {"longest pause under the default first", QWITH("retry = { max = \"500ms\"; };"),
     "1:43 error queues[0].retry.max: retry.first = 1s is over retry.max = 500ms\n"},
    {"breaker's pauses", QWITH("breaker = { probe = \"10min\"; };"),
     "1:47 error queues[0].breaker.probe: breaker.probe = 10min is over breaker.max = 2min\n"},
    {"timeout that does not fit the visibility timeout", QWITH("timeout = \"29s\";"),
     "1:37 error queues[0].timeout: timeout (29s) + margin (1500ms) + slack (1s) must be less than "
     "visibility_timeout (30s): at most timeout = \"27499ms\", or at least visibility_timeout = "
     "\"31579ms\" passes\n"},
    {"visibility timeout that does not fit the timeout",
     QWITH("visibility_timeout = \"5s\"; timeout = \"5s\";"),
     "1:64 error queues[0].timeout: timeout (5s) + margin (500ms) + slack (625ms) must be less than "
     "visibility_timeout (5s): at most timeout = \"3874ms\", or at least visibility_timeout = "
     "\"6452ms\" passes\n"},
    {"prefetch under the concurrency", QWITH("prefetch = 3; concurrency = 8;"),
     "1:38 error queues[0].prefetch: prefetch, at least the larger of concurrency and streams, (3) "
     "must be from 8 to 1000000\n"},
    {"a default prefetch that suits the streams", QWITH("concurrency = 1; streams = 9;"), ""},
    {"a queue that is its own dead-letter queue", QWITH("dead_letter_queue = \"a\";"),
     "1:47 error queues[0].dead_letter_queue: a queue cannot be its own dead-letter queue: a message "
     "that never works would go round for ever\n"},
    {"a dead-letter queue without a decision",
     "queues = (\n  { queue = \"a.dlq\"; handler = { plugin = \"log\"; }; } );",
     "2:0 error queues[0].dead_letter: \"a.dlq\" is a dead-letter queue and has none of its own: set "
     "dead_letter = \"none\" (retry for ever) or \"drop\", or name a dead_letter_queue\n"},
    {"a dead-letter queue with one",
     "queues = ( { queue = \"a.dlq\"; dead_letter = \"drop\"; handler = { plugin = \"log\"; }; },\n"
     "  { queue = \"b.dlq\"; dead_letter_queue = \"worse\"; handler = { plugin = \"log\"; }; } );",
     ""},
    {"dead-letter queue that is not used",
     QWITH("dead_letter = \"drop\"; dead_letter_queue = \"b\";"),
     "1:69 warning queues[0].dead_letter_queue: has no effect without dead_letter = \"worker\"\n"},
    {"attempts that are not counted", QWITH("dead_letter = \"broker\"; retry = { attempts = 3; };"),
     "1:72 warning queues[0].retry.attempts: has no effect with dead_letter = \"broker\": the queue's "
     "on_failure script counts\n"},
    {"scripts that are not used", QWITH("on_failure_script = \"x\";"),
     "1:47 warning queues[0].on_failure_script: has no effect without missing_queue = \"create\"\n"},
    {"a queue to be created with a lease that no broker gives",
     QWITH("missing_queue = \"create\"; visibility_timeout = \"500ms\";"),
     "1:74 error queues[0].visibility_timeout: 500ms: with missing_queue = \"create\" it must be at "
     "least 1s, the least that a broker gives a queue\n"},
    {"scripts that are used", QWITH("missing_queue = \"create\"; on_failure_script = \"x\";"), ""},
    {"one queue twice",
     "queues = ( { queue = \"a\"; handler = { plugin = \"log\"; }; },\n"
     "  { queue = \"a\"; handler = { plugin = \"log\"; }; } );",
     "2:13 warning queues[1].queue: \"a\" is also consumed by the entry at main.cfg:1: each gets a "
     "part of its messages\n"},
};

static const struct config_row EXPANSION[] = {
    {"set", "state_dir = \"${T_DIR}/x\";\n" Q, "", .env = "T_DIR=/tmp"},
    {"not set", "state_dir = \"${T_DIR}\";\n" Q,
     "1:13 error state_dir: the environment variable T_DIR is not set; ${T_DIR:-} would be empty "
     "then, and $${T_DIR} is no reference\n"},
    {"not set, with default", "state_dir = \"${T_DIR:-/tmp}\";\n" Q, ""},
    {"a number by reference", "max_running = \"${T_MAX:-7}\";\n" Q, ""},
    {"a number by reference that is none", "max_running = \"${T_MAX}\";\n" Q,
     "1:15 error max_running: \"many\" is not a whole number\n", .env = "T_MAX=many"},
    {"required, with message", "api_key = \"${T_KEY:?ask the platform team}\";\n" Q,
     "1:11 error api_key: T_KEY: ask the platform team\n"},
    {"required, without message", "api_key = \"${T_KEY:?}\";\n" Q,
     "1:11 error api_key: T_KEY: is not set\n"},
    {"required, empty", "api_key = \"${T_KEY:?no}\";\n" Q, "1:11 error api_key: T_KEY: no\n",
     .env = "T_KEY="},
    {"not closed", "state_dir = \"${T_DIR\";\n" Q,
     "1:13 error state_dir: ${ without its }: ${VAR}, ${VAR:-default}, ${VAR:?message}, ${file:PATH}; "
     "$$ is a dollar\n"},
    {"another form", "state_dir = \"${T_DIR-x}\";\n" Q,
     "1:13 error state_dir: ${T_DIR-x} is not understood: ${VAR}, ${VAR:-default}, ${VAR:?message}, "
     "${file:PATH}; $$ is a dollar\n"},
    {"empty", "state_dir = \"${}\";\n" Q,
     "1:13 error state_dir: ${} is not understood: ${VAR}, ${VAR:-default}, ${VAR:?message}, "
     "${file:PATH}; $$ is a dollar\n"},
    {"too deep",
     "state_dir = \"${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-${A:-x}}}}}}}}}}\";\n" Q,
     "1:13 error state_dir: more than 8 references inside each other\n"},
    {"file", "api_key = \"${file:key}\";\n" Q, "", .other = "key", .other_text = "abc\n"},
    {"no such file", "api_key = \"${file:nokey}\";\n" Q,
     "1:11 error api_key: cannot read nokey: No such file or directory\n"},
    {"a folder", "api_key = \"${file:/}\";\n" Q,
     "1:11 error api_key: cannot read /: it is a folder\n"},
    {"in a list, at its own place", "broker = ( \"grpc://a\",\n  \"${T_B}\" );\n" Q,
     "2:3 error broker: the environment variable T_B is not set; ${T_B:-} would be empty then, and "
     "$${T_B} is no reference\n"},
    {"in a handler's option", HWITH("x = \"${T_X}\";"),
     "1:59 error queues[0].handler.x: the environment variable T_X is not set; ${T_X:-} would be "
     "empty then, and $${T_X} is no reference\n"},
    {"the secret of a file is not repeated", "api_key = \"${file:key}\";\n" Q,
     "1:11 error api_key: holds a blank or a character that is not ASCII\n", .other = "key",
     .other_text = "top secret"},
};

static const struct config_row INCLUDES[] = {
    {"one more file", "include = \"more.cfg\";\n" Q, "", .other = "more.cfg",
     .other_text = "queues = ( { queue = \"b\"; handler = { plugin = \"log\"; }; } );"},
    {"only included queues", "include = \"more.cfg\";\n", "", .other = "more.cfg", .other_text = Q},
    {"a pattern without a match", "include = \"conf.d/*.cfg\";\n" Q, ""},
    {"a name without a match", "include = \"conf.d/a.cfg\";\n" Q,
     "1:11 error include: cannot read conf.d/a.cfg: there is no such file\n"},
    {"a folder", "include = \"/tmp\";\n" Q, "/tmp:0:0 error : cannot read it: it is a folder\n"},
    {"a number", "include = 5;\n" Q,
     "1:11 error include: expected text in quotes, or a list of such, found the number 5\n"},
    {"other keys", "include = \"more.cfg\";\n" Q,
     "more.cfg:1:1 error max_running: an included file takes `queues` only; this belongs into "
     "main.cfg\nmore.cfg:2:1 error include: an included file takes `queues` only; this belongs into "
     "main.cfg\n",
     .other = "more.cfg", .other_text = "max_running = 5;\ninclude = \"x\";\n"},
    {"an error in it", "include = \"*.cfg\";\n" Q,
     "1:11 warning include: the pattern matches this file itself, which is left out\n"
     "more.cfg:2:11 error queues[0].rate: \"x\" is not a number such as 5 or 0.5\n",
     .other = "more.cfg",
     .other_text =
         "queues = ( { queue = \"b\";\n   rate = \"x\"; handler = { plugin = \"log\"; }; } );"},
    {"a syntax error in it, and one in the main file", "include = ( \"more.cfg\" );\na = 1;\n" Q,
     "2:1 error a: unknown key\n"
     "more.cfg:1:9 error : syntax error: expected a value, found the end of the file\n",
     .other = "more.cfg", .other_text = "queues ="},
    {"an unequal relation in it", "include = \"more.cfg\";\n" Q,
     "more.cfg:1:47 error queues[0].dead_letter_queue: a queue cannot be its own dead-letter queue: a "
     "message that never works would go round for ever\n",
     .other = "more.cfg",
     .other_text =
         "queues = ( { queue = \"b\"; dead_letter_queue = \"b\"; handler = { plugin = \"log\"; }; } );"},
};

static const struct config_row OVERRIDES[] = {
    {"variable with a wrong value", Q,
     "environment:0:0 error FILA_WORKER_LOG_LEVEL: \"loud\" is not one of \"debug\", \"info\", "
     "\"warn\", \"error\" or \"off\"\n",
     .env = "FILA_WORKER_LOG_LEVEL=loud"},
    {"variable out of range", Q,
     "environment:0:0 error FILA_WORKER_MAX_RUNNING: -1 is out of range: 0 to 1000000\n",
     .env = "FILA_WORKER_MAX_RUNNING=-1"},
    {"variable without unit", Q,
     "environment:0:0 error FILA_WORKER_DRAIN_TIMEOUT: 30 has no unit: write \"30s\" (ms, s, min or "
     "h)\n",
     .env = "FILA_WORKER_DRAIN_TIMEOUT=30"},
    {"variable that breaks a relation", Q,
     "environment:0:0 error FILA_WORKER_DRAIN_TIMEOUT: 1s is too short: it must be over 2s, which are "
     "for returning what is left\n",
     .env = "FILA_WORKER_DRAIN_TIMEOUT=1s"},
    {"variable with a slip", Q,
     "environment:0:0 warning FILA_WORKER_HTTP_LISTN: no key has this variable; did you mean "
     "FILA_WORKER_HTTP_LISTEN?\n",
     .env = "FILA_WORKER_HTTP_LISTN=x"},
    {"variable of no key", Q,
     "environment:0:0 warning FILA_WORKER_SOMETHING_ELSE: no key has this variable\n",
     .env = "FILA_WORKER_SOMETHING_ELSE=x"},
    {"what others read or Kubernetes sets is no slip", Q, "",
     .env = "FILA_WORKER_CONFIG=x\nFILA_WORKER_PLUGIN_PATH=/x\n"
            "FILA_WORKER_SERVICE_HOST=10.0.0.1\nFILA_WORKER_PORT=tcp://10.0.0.1:80\n"
            "FILA_WORKER_PORT_80_TCP=x\nFILA_WORKER_SERVICE_PORT=80"},
    {"key file that is missing", Q,
     "environment:0:0 error FILA_API_KEY_FILE: cannot read /nowhere: No such file or directory\n",
     .env = "FILA_API_KEY_FILE=/nowhere"},
    {"API key that is none", Q,
     "environment:0:0 error FILA_API_KEY: holds a blank or a character that is not ASCII\n",
     .env = "FILA_API_KEY=two words"},
    {"--set with a wrong value", Q,
     "command line:0:0 error --set http.listen: \"80\" has no host; did you mean \"127.0.0.1:80\"?\n",
     .sets = {"http.listen=80"}},
    {"--set without a value", Q,
     "command line:0:0 error --set http.listen: write --set KEY=VALUE\n", .sets = {"http.listen"}},
    {"--set of an unknown key", Q,
     "command line:0:0 error --set log.levl: unknown key; did you mean \"log.level\"?\n",
     .sets = {"log.levl=info"}},
    {"--set of a queue's key", Q,
     "command line:0:0 error --set queues[0].rate: can only be set in the file\n"
     "command line:0:0 error --set timeout: can only be set in the file\n",
     .sets = {"queues[0].rate=5", "timeout=5s"}},
};

static void check_rows(const struct config_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fw_config *config = NULL;
        char *said = config_row_load(&rows[i], &config);
        cr_expect(eq(str, said, (char *)rows[i].expected), "%s", rows[i].what);
        cr_expect(
            eq(int, config != NULL, strstr(rows[i].expected, " error ") == NULL), "%s",
            rows[i].what);
        fw_config_free(config);
        free(said);
    }
}

#define ROWS(suite, name, rows)                          \
    Test(suite, name)                                    \
    {                                                    \
        check_rows(rows, sizeof(rows) / sizeof *(rows)); \
    }

ROWS(errors, syntax, SYNTAX)
ROWS(errors, keys, KEYS)
ROWS(errors, values, VALUES)
ROWS(errors, relations, RELATIONS)
ROWS(errors, expansion, EXPANSION)
ROWS(errors, includes, INCLUDES)
ROWS(errors, overrides, OVERRIDES)
