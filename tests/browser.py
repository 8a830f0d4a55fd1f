"""Chromium without a window, driven by its pipe of messages; no library is needed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WAIT_SECONDS = 120


class Browser:
    """One page in Chromium, see the DevTools protocol."""

    def __init__(self, width: int = 1200, height: int = 1600) -> None:
        to_read, self._to_write = os.pipe()
        self._from_browser, to_fill = os.pipe()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [
            "bash",
            "-c",
            f'exec "$0" "$@" 3<&{to_read} 4>&{to_fill}',
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._folder.name}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(to_read, to_fill), **silent)
        for descriptor in (to_read, to_fill):
            os.close(descriptor)
        self._count, self._session = 0, None
        self._answers, self.events = queue.Queue(), []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._to_write)
        os.close(self._from_browser)
        self._folder.cleanup()

    def call(self, method: str, **params: object) -> dict:
        """Returns the answer to a message of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session and not method.startswith(("Target", "Browser")):
            message["sessionId"] = self._session
        os.write(self._to_write, json.dumps(message).encode() + b"\0")
        answer = self._answers.get(timeout=WAIT_SECONDS)
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, script: str) -> object:
        """Returns the value of a line of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Waits until a line of JavaScript is true."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.evaluate(script):
            assert time.monotonic() < end, f"It must become true: {script}"
            time.sleep(0.2)

    def choose_file(self, selector: str, path: str) -> None:
        """Gives a file to an input element."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector=selector)
        self.call("DOM.setFileInputFiles", nodeId=found["nodeId"], files=[path])

    def urls(self) -> set[str]:
        """Returns everything that the page has asked for."""
        method = "Network.requestWillBeSent"
        sent = [e["params"] for e in self.events if e["method"] == method]
        return {params["request"]["url"] for params in sent}

    def errors(self) -> list[dict]:
        """Returns the errors of the console."""
        entries = [
            event["params"].get("entry", {"level": "error", **event["params"]})
            for event in self.events
            if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
        return [entry for entry in entries if entry["level"] == "error"]

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while part := os.read(self._from_browser, 65536):
                *messages, rest = (rest + part).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers.put(message)
                    else:
                        self.events.append(message)
