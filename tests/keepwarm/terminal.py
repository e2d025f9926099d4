"""A terminal of a given size with a program in it: tmux, driven from outside.

The program runs under a shell that notes its exit status and the terminal's settings before and after it, and then
waits, so that what a program leaves behind can be seen. Everything ends with close().
"""
import os
import shlex
import shutil
import subprocess

from keepwarm import process
from keepwarm.process import wait_until
from keepwarm.system import temp_folder

SCRIPT = """trap : INT QUIT
echo what was there before
stty -g >{folder}/before
{command} 2>{folder}/stderr
status=$?
stty -g >{folder}/after
cat {folder}/stderr
echo "ended with $status"
exec tail -f /dev/null
"""


class Terminal:
    def __init__(self, argv, width=80, height=24, **environment):
        """environment: what the program gets besides or, with None, without."""
        self.folder = temp_folder()
        script = self.folder / "script"
        script.write_text(SCRIPT.format(command=shlex.join(map(str, argv)), folder=self.folder))
        self.width, self.height = width, height
        env = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color", ASAN_OPTIONS="detect_leaks=0")
        env.pop("TMUX", None)
        env.pop("NO_COLOR", None)
        self.env = env
        # not as a daemon, so that it ends with us
        self.server = process.start(["tmux", "-u", "-S", self.folder / "tmux", "-f", "/dev/null", "-D"], env=env,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until((self.folder / "tmux").is_socket, "tmux has no socket")
            self.open(script, environment)
        except BaseException:
            self.close()
            raise

    def open(self, script, environment):
        settings = [f"{name}={value}" for name, value in environment.items() if value is not None]
        unset = [word for name, value in environment.items() if value is None for word in ("-u", name)]
        width, height = str(self.width), str(self.height)
        self.tmux("new-session", "-d", "-x", width, "-y", height,
                  shlex.join(["env", *unset, *settings, "sh", str(script)]), ";", "set", "-g", "status", "off", ";",
                  "set", "-g", "window-size", "manual", ";", "resize-window", "-x", width, "-y", height)

    def tmux(self, *argv):
        run = subprocess.run(["tmux", "-S", str(self.folder / "tmux"), *argv], capture_output=True, check=False,
                             env=self.env, timeout=process.DEADLINE)
        assert run.returncode == 0, f"tmux {argv}: {run.stderr!r}"
        return run.stdout.decode()

    def close(self):
        self.server.terminate()
        self.server.wait(process.DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what is seen ---------------------------------------------------------------------------------
    def lines(self):
        """The screen's lines, blanks at their ends left out."""
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").split("\n")[:self.height]]

    def text(self):
        return "\n".join(self.lines())

    def styled(self):
        """With escape sequences for colours and the like."""
        return self.tmux("capture-pane", "-p", "-e")

    def wait(self, *words, without=()):
        """Until all words are on the screen and none of the others; returns its lines."""
        def seen():
            text = self.text()
            return all(word in text for word in words) and not any(word in text for word in without)
        wait_until(seen, lambda: f"{words}, without {without}, in {self.width}x{self.height}:\n{self.text()}")
        return self.lines()

    def ask(self, variable):
        """One of tmux' format variables, as cursor_flag."""
        return self.tmux("display-message", "-p", f"#{{{variable}}}").strip()

    # --- what is done ---------------------------------------------------------------------------------
    def press(self, *keys):
        """Keys by tmux' names: "q", "Enter", "Escape", "PageDown"."""
        for key in keys:
            self.tmux("send-keys", key)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def resize(self, width, height):
        self.width, self.height = width, height
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def pid(self):
        """The program's process."""
        shell = int(self.ask("pane_pid"))
        children = process.read_proc(shell, f"task/{shell}/children").split()
        assert len(children) == 1, children
        return int(children[0])

    def wait_end(self, status):
        """The program has ended with this status and left the terminal as it was: settings, the former screen,
        the cursor."""
        lines = self.wait(f"ended with {status}")
        assert lines[0] == "what was there before", lines
        assert (self.folder / "before").read_text() == (self.folder / "after").read_text()
        assert (self.ask("alternate_on"), self.ask("cursor_flag")) == ("0", "1")
        return lines
