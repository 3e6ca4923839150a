"""Open every page of a built site in a headless browser with the network off.

    python tools/check_browser.py _build/html

Each page is opened as a file and from a server on this machine, at the width of a phone. No request
may fail or go to another host, no script may raise, every formula must be rendered, every picture
must have arrived, and the page must not scroll sideways.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websocket import WebSocket

BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
PATIENCE = 60.0  # seconds for one answer of the browser

# Waits for the page and for MathJax, then reports on the page as it stands.
INSPECT = """
(async () => {
  if (document.readyState !== 'complete') {
    await new Promise((done) => window.addEventListener('load', done));
  }
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await new Promise((done) => setTimeout(done, 100)); // for what the rendering asks for in turn
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    unrendered: all('.math')
      .filter((e) => !e.querySelector('mjx-container'))
      .map((e) => e.textContent),
    misread: all('mjx-merror, [data-mjx-error]').map((e) => e.textContent),
    missing: all('img').filter((e) => e.complete && !e.naturalWidth).map((e) => e.src),
    excess: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    widest: all('article *')
      .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
      .filter((e) => !e.closest('pre, table, .highlight, mjx-container'))
      .map((e) => e.tagName.toLowerCase() + ' ' + e.className)
      .slice(0, 3)
      .join(', '),
  };
})()
"""


class SilentHandler(SimpleHTTPRequestHandler):
    """A file server that keeps its requests to itself."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield its address."""
    handler = partial(SilentHandler, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def find_browser() -> str:
    """Return the command of a browser that is installed, or raise FileNotFoundError."""
    for name in BROWSERS:
        if command := shutil.which(name):
            return command
    raise FileNotFoundError("No Chromium or Chrome was found: install one (on Debian: chromium).")


class Tab:
    """One tab of a browser, over the DevTools protocol."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.session = ""
        self.last_id = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", **PHONE)

    def receive(self) -> dict[str, Any]:
        """Return the next message, noting it if it is an event."""
        message: dict[str, Any] = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command and return its result; raise RuntimeError if the browser refuses it."""
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while (answer := self.receive()).get("id") != self.last_id:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str) -> dict[str, Any]:
        """Open an address and return what INSPECT reports of the page, redirects followed."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while True:
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.receive()
            try:
                answer = self.call(
                    "Runtime.evaluate", expression=INSPECT, awaitPromise=True, returnByValue=True
                )
            except RuntimeError:  # the page was left for the one that it redirects to
                self.events = [e for e in self.events if e["method"] != "Page.loadEventFired"]
                continue
            report: dict[str, Any] = answer["result"]["value"]
            return report


@contextmanager
def opened(command: str) -> Iterator[Tab]:
    """Start a browser that can reach this machine alone; yield its tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--no-first-run", "--disable-background-networking", "--disable-extensions"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        options += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
        # The command may be a script around the browser: a session of their own ends them together.
        process = subprocess.Popen(
            [command, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            socket = WebSocket()
            socket.settimeout(PATIENCE)
            address = address_of(process, Path(profile))
            socket.connect(address, suppress_origin=True, http_no_proxy=["127.0.0.1"])
            yield Tab(socket)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def address_of(process: subprocess.Popen[bytes], profile: Path) -> str:
    """Wait until a browser says where it listens, and return that address."""
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.is_file() and len(lines := port_file.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError("The browser did not start.")


def network_problems(events: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what went wrong while a page loaded and its scripts ran."""
    addresses: dict[str, str] = {}
    for event in events:
        params = event["params"]
        if event["method"] == "Network.requestWillBeSent":
            addresses[params["requestId"]] = address = params["request"]["url"]
            if urlsplit(address).hostname not in (None, "127.0.0.1"):
                yield f"asks another host: {address}"
        elif event["method"] == "Network.loadingFailed" and not params.get("canceled"):
            yield f"failed to load: {addresses.get(params['requestId'])} ({params['errorText']})"
        elif event["method"] == "Network.responseReceived":
            if (response := params["response"])["status"] >= 400:
                yield f"failed to load: {response['url']} (status {response['status']})"
        elif event["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            reason = details.get("exception", {}).get("description", details["text"])
            yield f"a script failed: {reason}"


def page_problems(tab: Tab, address: str) -> Iterator[str]:
    """Open one page and yield what is wrong with it."""
    report = tab.open(address)
    yield from network_problems(tab.events)
    yield from (f"formula not rendered: {text}" for text in report["unrendered"])
    yield from (f"formula with an error: {text}" for text in report["misread"])
    yield from (f"picture not shown: {source}" for source in report["missing"])
    if report["excess"] > 1:
        yield f"scrolls sideways by {report['excess']} px on a phone: {report['widest']}"


def problems(site: Path, command: str) -> list[str]:
    """Return everything that is wrong with the site in this folder as a browser shows it."""
    site = site.resolve()
    pages = [page.relative_to(site) for page in sorted(site.glob("*.html"))]
    if not pages:
        raise FileNotFoundError(f"There is no site in {site}: build it with `make book` first.")
    found = []
    with served(site) as server, opened(command) as tab:
        for base in (server, site.as_uri()):
            for page in pages:
                address = f"{base}/{page.as_posix()}"
                found += [f"{address}: {what}" for what in page_problems(tab, address)]
    return found


def main() -> int:
    """Print the problems of a site; succeed if there are none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    try:
        found = problems(parser.parse_args().site, find_browser())
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    for line in found:
        print(line, file=sys.stderr)
    print(f"browser check: {len(found)} problems" if found else "browser check: nothing wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
