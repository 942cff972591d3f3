# SPDX-License-Identifier: AGPL-3.0-or-later
"""A headless Chromium by its own driver (WebDriver, plain HTTP); no package of Python's is needed."""
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from harness import Deadline, Failed, Skipped

KEYS = {"tab": "\ue004", "escape": "\ue00c", "enter": "\ue007"}


class Browser:
    def __init__(self, folder):
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if not driver or not chromium:
            raise Skipped("no browser: config/install-packages.sh browser installs chromium and its driver")
        self.profile = tempfile.mkdtemp(prefix="chromium-", dir=folder)
        self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, start_new_session=True)
        self.session = None
        for line in self.process.stdout:
            if "started successfully on port" in line:
                self.base = "http://127.0.0.1:%d" % int(line.rstrip(".\n").rsplit(" ", 1)[1])
                break
        else:
            raise Failed("chromedriver did not start")
        options = {"binary": chromium, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                                "--no-proxy-server", "--user-data-dir=" + self.profile]}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = "/session/" + answer["sessionId"]

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as why:
            raise Failed("browser: %s %s: %s" % (method, path, why.read().decode()[:600])) from None

    def do(self, path, **body):
        return self.call("POST", self.session + path, body)

    def cdp(self, command, **parameters):
        return self.do("/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, url):
        self.do("/url", url=url)

    def run(self, script, *arguments):
        """What `return ...;` in the page gives."""
        return self.do("/execute/sync", script=script, args=list(arguments))

    def wait(self, what, script, seconds=20):
        limit = Deadline(seconds)
        while True:
            answer = self.run(script)
            if answer:
                return answer
            if limit.over():
                raise Failed("waited %g s for the page: %s" % (limit.seconds, what))
            self.run_async_pause()

    def run_async_pause(self):
        self.do("/execute/async", script="setTimeout(arguments[0], 100);", args=[])

    def keys(self, text):
        actions = [{"type": t, "value": KEYS.get(text, text)} for t in ("keyDown", "keyUp")]
        self.do("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def console(self):
        return self.do("/se/log", type="browser")

    def look(self, width, height, dark=False, mobile=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, path):
        data = self.cdp("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        with contextlib.suppress(Exception):
            if self.session:
                self.call("DELETE", self.session)
        self.process.terminate()
        with contextlib.suppress(Exception):
            self.process.wait(10)
