# SPDX-License-Identifier: AGPL-3.0-or-later
"""The page for people in a real browser, with 1,000 held messages and names that mean harm.

Needs chromium (config/install-packages.sh browser); FILA_PAGE_SHOTS=FOLDER keeps the screenshots.
"""
import os
import signal

from browser import Browser
from harness import SLOW, Skipped, expect, expect_equal, expect_match
from registry import test
from test_ops import Port, served

EVIL = "<img src=x onerror=window.hacked=1>\"'&<b>"
REASON = "</td><script>window.hacked=1</script><svg onload=window.hacked=1>"
CONFIG = """broker = "%(broker)s";
queues = (
  { queue = "orders"; handler = { plugin = "exec"; command = [ "%(slow)s" ]; }; concurrency = 4; prefetch = 1000;
    visibility_timeout = "600s"; timeout = "200s"; },
  { queue = "thumbnails"; handler = { plugin = "exec"; command = [ "/bin/true" ]; }; },
  { queue = "payments"; handler = { plugin = "exec"; command = [ "%(down)s" ]; };
    breaker = { failures = 2; probe = "5s"; max = "20s"; }; visibility_timeout = "300s"; },
  { queue = "%(evil)s"; handler = { plugin = "exec"; command = [ "%(fails)s" ]; };
    retry = { attempts = 2; first = "100ms"; max = "200ms"; }; } );
http = { listen = "127.0.0.1:%(port)d"; };
drain_timeout = "9s";
"""

# Elements with text of their own whose contrast is under WCAG's 4.5 (3 for large text).
CONTRAST = """
const light = (c) => { const v = c.map((x) => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
  return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
const parse = (s) => s.match(/[\\d.]+/g).map(Number);
const back = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const bad = [];
for (const e of document.querySelectorAll("body *")) {
  if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), a = light(parse(style.color).slice(0, 3)), b = light(back(e).slice(0, 3));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < (parseFloat(style.fontSize) >= 18.6 ? 3 : 4.5)) bad.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.slice(0, 30));
}
return [...new Set(bad)].slice(0, 10);
"""
# Walks by Tab from the top: what gets the focus, and what of that cannot be seen to have it.
FOCUSED = """
const e = document.activeElement, style = getComputedStyle(e);
return [e === document.body ? "" : e.id || e.textContent.trim().slice(0, 30) || e.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
"""
NAMELESS = """
return [...document.querySelectorAll("button, input, a, svg, table, section")].filter((e) => e.checkVisibility() && !(
  e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length))).map((e) => e.outerHTML.slice(0, 80));
"""


def shot(browser, name):
    if os.environ.get("FILA_PAGE_SHOTS"):
        browser.screenshot(os.path.join(os.environ["FILA_PAGE_SHOTS"], name + ".png"))


def quiet(browser, what):
    said = [line["message"] for line in browser.console() if line["level"] in ("SEVERE", "WARNING")]
    expect_equal("the browser's console (%s)" % what, said, [])


@test(seconds=180)
def page_in_a_browser(bench):
    if SLOW > 1:
        raise Skipped("the page is the same under a sanitizer")
    browser = Browser(bench.folder)
    bench.cleanups.append(browser.close)
    bench.start_broker()
    config = {"broker": bench.broker, "port": 0, "evil": EVIL.replace('"', '\\"'),
              "slow": bench.script("slow.sh", "exec sleep 100"),
              "down": bench.script("down.sh", 'echo "the card network is away" >&2; exit 69'),
              "fails": bench.script("fails.sh", "echo '%s' >&2; exit 1" % REASON.replace("'", ""))}
    for queue in ("orders", "thumbnails", "payments", EVIL):
        bench.create_queue(queue, {"orders": "600s", "payments": "300s"}.get(queue, "30s"))
    bench.enqueue_lines("orders", ["m"] * 1100)
    bench.enqueue_lines("payments", ["m"] * 3)
    bench.enqueue_lines(EVIL, ["m"] * 3)
    worker = served(bench, CONFIG % config, streams=4, level="info")
    port = Port(worker)
    bench.wait_until("1,000 held messages", 60,
                     lambda: {q["queue"]: q["count"]["held"] for q in port.status()["queues"]}.get("orders"),
                     lambda held: held and held >= 1000)
    bench.wait_until("dead letters", 30,
                     lambda: [q["count"]["finished"]["dead_lettered"] for q in port.status()["queues"]],
                     lambda dead: max(dead) == 3)

    browser.look(1280, 1400)
    browser.open("http://127.0.0.1:%d/" % port.number)
    browser.wait("four queues", 'return document.querySelectorAll("#queues tbody tr").length === 4;')
    expect_equal("rows at first", browser.run('return document.querySelectorAll("#held tbody tr").length;'), 100)
    browser.run('document.getElementById("all").click();')
    rows = browser.run('return document.querySelectorAll("#held tbody tr").length;')
    expect(rows >= 1000, "%d rows of held messages", rows)
    order = browser.run('return [...document.querySelectorAll("#held tbody tr")].map((r) => r.cells[3].textContent);')
    expect(order.count("running") == 4, "%d shown as running", order.count("running"))
    browser.run('document.getElementById("all").click();')

    # Texts of others are texts.
    names = browser.run('return [...document.querySelectorAll("#queues tbody th")].map((e) => e.textContent);')
    expect(EVIL in names, "the hostile name is not shown as it is: %r", names)
    reasons = browser.run('return [...document.querySelectorAll("#recent tbody tr")].map((r) => r.cells[3].textContent);')
    expect(any(REASON in r for r in reasons), "the hostile reason is not shown as it is: %r", reasons)
    expect_equal("scripts that ran", browser.run("return window.hacked === undefined;"), True)
    expect_equal("elements made of texts", browser.run('return document.querySelectorAll("main img, main script, main b").length;'), 0)
    expect_equal("what it says of payments", browser.wait(
        "the breaker", 'return [...document.querySelectorAll("#trouble-list li")].map((e) => e.textContent).filter((t) => t.startsWith("payments: breaker open")).length;'), 1)

    # Numbers move while messages flow.
    bench.enqueue_lines("thumbnails", ["m"] * 200)
    browser.wait("the plots to have a line", 'return document.querySelector("#plot-rate path.a").getAttribute("d").length > 20;', 30)
    browser.wait("messages to be counted", 'return [...document.querySelectorAll("#queues tbody tr")].some((r) => r.cells[0].textContent === "thumbnails" && r.cells[7].textContent === "200");', 30)

    # How it looks, and whether all of it can be read and named.
    for name, width, height, dark, mobile in (("desktop", 1280, 1400, False, False), ("desktop-dark", 1280, 1400, True, False),
                                              ("phone", 390, 1600, False, True), ("phone-dark", 390, 844, True, True)):
        browser.look(width, height, dark, mobile)
        browser.run_async_pause()
        shot(browser, name)
        expect_equal("too pale to read (%s)" % name, browser.run(CONTRAST), [])
        wide = browser.run("return document.documentElement.scrollWidth - innerWidth;")
        expect(wide <= 0, "%s: %d pixels wider than the screen", name, wide)
    expect_equal("without a name for a screen reader", browser.run(NAMELESS), [])

    # By keyboard.
    browser.look(1280, 1400)
    browser.keys("/")
    expect_equal("focus after /", browser.run("return document.activeElement.id;"), "filter")
    for letter in "payments":
        browser.keys(letter)
    queues = browser.run('return [...new Set([...document.querySelectorAll("#held tbody tr")].map((r) => r.cells[1].textContent))];')
    expect_equal("queues after filtering", queues, ["payments"])
    shot(browser, "filtered")
    browser.keys("escape")
    browser.run('const f = document.getElementById("filter"); f.value = ""; f.dispatchEvent(new Event("input"));')
    browser.run('document.querySelector("#glance .bad").click();')
    states = browser.run('return [...document.querySelectorAll("#queues tbody tr")].map((r) => r.cells[1].textContent);')
    expect_equal("queues of that state alone", states, ["■ breaker open"])
    browser.run('document.querySelector("#glance .bad").click(); document.querySelector(".skip").focus();')
    walk = [browser.run(FOCUSED)]
    while len(walk) < 60 and walk[-1][0]:
        browser.keys("tab")
        walk.append(browser.run(FOCUSED))
    expect_equal("focus that cannot be seen", [name for name, seen in walk if name and not seen], [])
    names = [name for name, _ in walk]
    expect(names[0] == "Skip to the queues" and names[-1] == "" and {"hold", "filter", "all", "/metrics"} <= set(names)
           and names.index("hold") < names.index("filter") < names.index("all"), "the walk by Tab: %r", names)
    expect_equal("things that move by themselves", browser.run("return document.getAnimations().length;"), 0)
    browser.keys("p")
    expect_equal("paused", browser.run('return document.getElementById("hold").getAttribute("aria-pressed");'), "true")
    browser.keys("p")
    expect_equal("going on", browser.run('return document.getElementById("hold").getAttribute("aria-pressed");'), "false")
    own = browser.run("return performance.getEntriesByType('resource').every((e) => e.name.startsWith(location.origin));")
    expect_equal("asked nobody else", own, True)
    quiet(browser, "while it works")

    # The worker goes and comes back.
    worker.signal(signal.SIGKILL)
    worker.wait(10)
    browser.wait("the page to say so", 'return document.documentElement.classList.contains("stale") && document.getElementById("verdict-text").textContent.startsWith("no answer");')
    gone = browser.run('return document.getElementById("gone").checkVisibility() && document.getElementById("gone").textContent;')
    expect_match("what it says", r"^The worker does not answer since \d\d:\d\d:\d\d\. .*WORKER-STOP", gone or "")
    shot(browser, "stale")
    drawn = browser.run('return document.querySelector("#plot-rate path.a").getAttribute("d").length;')
    again = served(bench, CONFIG % {**config, "port": port.number}, streams=4, level="info")
    Port(again, 30)
    browser.wait("the page to go on by itself", 'return !document.documentElement.classList.contains("stale") && document.getElementById("host").textContent.endsWith(":%d");' % again.pid, 30)
    expect_equal("scripts that ran", browser.run("return window.hacked === undefined;"), True)
    browser.wait("the restart to be marked", 'return document.querySelector("#plot-rate path.again").getAttribute("d").startsWith("M");')
    kept = browser.run('return document.querySelector("#plot-rate path.a").getAttribute("d").length;')
    expect(kept > drawn / 2, "the plot from before the restart is gone: %d of %d", kept, drawn)
    bench.enqueue_lines("orders", ["m"] * 4)  # what the first one held is still leased to it
    browser.wait("work to be shown", 'return document.querySelectorAll("#held tbody tr").length >= 4;', 30)
    again.signal(signal.SIGTERM)
    browser.wait("the drain to be shown", 'return document.getElementById("verdict-text").textContent.startsWith("draining");', 10)
    again.kill()  # the drain itself is tested elsewhere
