"""Roundcube with PHP's own web server, and a headless Chromium to use it, both in a root of their own (debroot.py).

The packages are large (146 MB to fetch, 513 MB installed), so they are never installed on the machine itself. The
browser is driven by Debian's chromedriver, which speaks W3C WebDriver: JSON over HTTP, so no library is needed.
"""
import base64
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

from keepwarm import debroot, process

PACKAGES = ("roundcube-core roundcube-sqlite3 php-cli php-sqlite3 php-intl php-mbstring php-xml php-curl "
            "chromium chromium-driver fonts-dejavu-core")
CONFIG = """<?php
$config = [];
$config['db_dsnw'] = 'sqlite:///{data}/db.sqlite?mode=0640';
$config['imap_host'] = '127.0.0.1:{imap}';
$config['imap_timeout'] = 15;
$config['imap_cache'] = null;
$config['messages_cache'] = false; // each click reaches the IMAP server
$config['smtp_host'] = '127.0.0.1:1';
$config['des_key'] = 'just-for-this-test-24-ch';
$config['plugins'] = [];
$config['skin'] = 'elastic';
$config['language'] = 'en_US';
$config['create_default_folders'] = true;
$config['temp_dir'] = '{data}/temp';
$config['log_dir'] = '{data}/logs';
$config['log_driver'] = 'file';
$config['imap_debug'] = true; // the dialogue, in logs/imap.log
$config['refresh_interval'] = 3600;
$config['login_rate_limit'] = 100;
$config['enable_installer'] = false;
"""
START = """
cp /etc/roundcube/defaults.inc.php /etc/roundcube/mimetypes.php {data}/conf/
php -r '$db = new PDO("sqlite:$argv[1]"); $db->exec(file_get_contents("/usr/share/roundcube/SQL/sqlite.initial.sql"));' \\
	{data}/db.sqlite
export HOME={data}/temp ROUNDCUBE_CONFIG_DIR={data}/conf/ PHP_CLI_SERVER_WORKERS=4
cd /usr/share/roundcube
php -d session.save_path={data}/temp -S 127.0.0.1:{port} -t . &
chromedriver --port={driver} &
wait
"""
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--window-size=1400,850")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that WebDriver gives to an element's id
SECONDS = 20.0


class Roundcube(debroot.Rooted):
    def __init__(self, imap_port):
        super().__init__(root()[0], 0)
        self.driver_port = process.free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        for name in ("conf", "temp", "logs"):
            (self.data / name).mkdir()
        (self.data / "conf" / "config.inc.php").write_text(CONFIG.format(data=self.data, imap=imap_port))

    def start(self):
        self.boot(START.format(data=self.data, port=self.port, driver=self.driver_port))
        return self

    def greets(self):
        assert self.outer.poll() is None, "Roundcube has ended:\n" + self.log_text()
        try:
            with urllib.request.urlopen(self.url, timeout=SECONDS) as page:
                shown = b"rcmloginuser" in page.read()
            with urllib.request.urlopen(f"http://127.0.0.1:{self.driver_port}/status", timeout=SECONDS) as status:
                return shown and json.load(status)["value"]["ready"]
        except (OSError, http.client.HTTPException):
            return False

    def errors(self):
        """What Roundcube has complained about."""
        log = self.data / "logs" / "errors.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def dialogue(self):
        """All that was said by IMAP."""
        return (self.data / "logs" / "imap.log").read_text(errors="replace")


class Browser:
    """One browser window. Its commands are WebDriver's; wait_for() is how a test waits for anything."""

    def __init__(self, port, pictures: Path):
        self.base, self.pictures = f"http://127.0.0.1:{port}", pictures
        options = {"binary": "/usr/bin/chromium", "args": list(CHROMIUM)}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}, 60)
        self.base += "/session/" + made["sessionId"]

    def call(self, method, path, body=None, seconds=SECONDS):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path} {body}: {json.load(error)['value']['message']}") from None

    def close(self):
        self.call("DELETE", "")

    def go(self, url):
        self.call("POST", "/url", {"url": url})

    def script(self, text, *args):
        """What a function with this body returns in the page."""
        return self.call("POST", "/execute/sync", {"script": text, "args": list(args)})

    def wait_for(self, expression, what):
        """Waits until the JavaScript expression is true in the page, and returns its value."""
        def look():
            try:
                return self.script(f"return {expression}")
            except AssertionError:
                return None  # between two pages
        return process.wait_until(look, lambda: f"{what}; the page says:\n{self.text()}", SECONDS)

    def text(self):
        return self.script("return document.body ? document.body.innerText : ''")

    def element(self, selector):
        """The first element of a CSS selector that can be seen."""
        return self.wait_for("Array.from(document.querySelectorAll(%s)).find(e => e.offsetParent !== null)"
                             % json.dumps(selector), f"no {selector}")[ELEMENT]

    def click(self, selector):
        self.call("POST", f"/element/{self.element(selector)}/click")

    def hover(self, selector):
        """Moves the mouse there."""
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": {ELEMENT: self.element(selector)}}
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def write(self, selector, text):
        """Replaces what is in an input field. "\\ue007" is the Enter key."""
        element = self.element(selector)
        self.call("POST", f"/element/{element}/clear")
        self.call("POST", f"/element/{element}/value", {"text": text})

    def frame(self, selector):
        """Goes into a frame, or with None out of all."""
        element = {ELEMENT: self.element(selector)} if selector else None
        self.call("POST", "/frame", {"id": element})

    def picture(self, name):
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{name}.png"
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
        return path


def root():
    return debroot.prepare("roundcube", PACKAGES)


def missing():
    """Why there can be no Roundcube here, or None. The first call on a machine takes minutes."""
    return root()[1]
