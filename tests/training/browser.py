"""A headless Chromium driven through a pair of pipes: real input, real pixels, nothing to install, no port."""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
           "--hide-scrollbars", "--allow-pre-commit-input", "--remote-debugging-pipe")


def find() -> str | None:
  """Path of the browser, or None."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One page of one browser."""

  def __init__(self, profile: pathlib.Path, timeout: float = 60.0):
    """Starts the browser with a fresh `profile`; no answer may take longer than `timeout` seconds."""
    self._timeout, self._number, self._rest = timeout, 0, b""
    self.requests, self.errors = [], []
    # The browser reads commands from descriptor 3 and answers on 4; high numbers keep the redirections apart.
    high = lambda fd: fcntl.fcntl(fd, fcntl.F_DUPFD, 64)
    pipes = [*os.pipe(), *os.pipe()]
    self._in, theirs_out, theirs_in, self._out = (high(pipes[i]) for i in (2, 3, 0, 1))
    for fd in pipes:
      os.close(fd)
    shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    self._process = subprocess.Popen(
        ["bash", "-c", shell, find(), *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(theirs_in)
    os.close(theirs_out)
    self._session = None
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
      self.call(f"{domain}.enable")

  def close(self):
    """Ends the browser."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()
    os.close(self._in)
    os.close(self._out)

  def _read(self) -> dict:
    deadline = time.monotonic() + self._timeout
    while b"\0" not in self._rest:
      ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
      more = os.read(self._in, 1 << 20) if ready else b""
      if not more:
        raise RuntimeError("the browser does not answer")
      self._rest += more
    message, _, self._rest = self._rest.partition(b"\0")
    return json.loads(message)

  def call(self, method: str, **params) -> dict:
    """Calls a method of the DevTools protocol; notes the requests and errors that are told meanwhile."""
    self._number += 1
    message = {"id": self._number, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    data = json.dumps(message).encode() + b"\0"
    while data:
      data = data[os.write(self._out, data):]
    while True:
      answer = self._read()
      if answer.get("id") == self._number:
        if "error" in answer:
          raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]
      self._note(answer)

  def _note(self, event: dict):
    params = event.get("params", {})
    if event["method"] == "Network.requestWillBeSent":
      self.requests.append(params["request"]["url"])
    elif event["method"] == "Runtime.exceptionThrown":
      self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
    elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
      self.errors.append(params["entry"]["text"])

  def js(self, expression: str):
    """Evaluates JavaScript, awaits it and returns its value."""
    answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in answer:
      raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
    return answer["result"].get("value")

  def open(self, path: pathlib.Path, *, width: int = 1280, height: int = 800, dark: bool = False, ratio: float = 1):
    """Opens a page of the microscope and waits until it is drawn."""
    self.requests.clear()
    self.errors.clear()
    self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=False)
    scheme = "dark" if dark else "light"
    self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    self.call("Page.navigate", url=path.resolve().as_uri())
    deadline = time.monotonic() + self._timeout
    while not self.js("document.readyState === 'complete' && Boolean(window.microscope)"):
      if time.monotonic() > deadline:
        raise RuntimeError(f"{path} does not load: {self.errors}")
      time.sleep(0.02)
    self.js("microscope.ready")
    # On a busy machine a page is ready before it is painted, and mouse and keys are lost until then.
    self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

  def mouse(self, x: float, y: float, *, click: bool = False):
    """Moves the mouse, and clicks."""
    self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    for kind in ("mousePressed", "mouseReleased") if click else ():
      self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    self.js("microscope.whenDrawn()")

  def click(self, selector: str):
    """Clicks the middle of an element."""
    box = self.js(f"(({{left, top, width, height}}) => [left + width / 2, top + height / 2])"
                  f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
    self.mouse(*box, click=True)

  def key(self, key: str):
    """Presses a key."""
    text = {"text": key} if len(key) == 1 else {}
    self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
    self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
    self.js("microscope.whenDrawn()")

  def screenshot(self, path: pathlib.Path):
    """Saves what is on the screen."""
    path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
