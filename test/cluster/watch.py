"""Looks at what happens, all the time: who is a primary since when, and what was acknowledged."""
import threading
import time

import psycopg2


class Roles(threading.Thread):
    """Of one member, over its unix socket: a cut does not hide it."""

    def __init__(self, member):
        super().__init__(daemon=True)
        self.member = member
        self.role, self.since, self.changes = None, 0.0, []
        self.start()

    def note(self, role):
        if role != self.role:
            self.role, self.since = role, time.time()
            self.changes.append((self.since, role))

    def run(self):
        connection = None
        while True:
            try:
                if connection is None:
                    connection = self.member.connect(1, "postgres")
                cursor = connection.cursor()
                cursor.execute("SELECT pg_is_in_recovery()")
                self.note("standby" if cursor.fetchone()[0] else "primary")
                time.sleep(0.01)
            except (psycopg2.Error, OSError, ValueError):
                self.note(None)
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)

    def primary_since(self, moment):
        """When it became one, after that moment; or None."""
        return next((at for at, role in self.changes if role == "primary" and at >= moment), None)


class Answers:
    """What the submitters have recorded, so far."""

    def __init__(self, paths):
        self.places = {path: 0 for path in paths}
        self.all = []

    def read(self):
        for path, place in self.places.items():
            try:
                with open(path, "rb") as file:
                    file.seek(place)
                    text = file.read()
            except FileNotFoundError:
                continue
            text = text[:text.rfind(b"\n") + 1]
            self.places[path] = place + len(text)
            for line in text.decode().splitlines():
                outcome, client, number, host, sent, answered = line.split()
                self.all.append((outcome, int(client), int(number), host, float(sent), float(answered)))
        return self.all

    def acknowledged(self, begin, end=float("inf")):
        """When, in order, of those that were submitted and answered between."""
        return sorted(a[5] for a in self.read() if a[0] == "A" and begin <= a[4] and a[5] <= end)

    def last_before(self, moment):
        return max((a[5] for a in self.read() if a[0] == "A" and a[5] <= moment), default=None)

    def longest_pause(self, begin, end):
        """From the last acknowledgement before it to the first one after."""
        times = [a[5] for a in self.read() if a[0] == "A" and a[5] <= end]
        times = sorted(t for t in times if t >= begin - 1)
        pauses = [(after - before, before, after) for before, after in zip(times, times[1:]) if after >= begin]
        return max(pauses, default=None)
