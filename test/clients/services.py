"""Two services with subscriptions of different names, through a pooler in transaction mode.

The pooler has two sessions for both.  Calls come to whichever is free: to one that has the
subscription, to one that has none, to one that has the other service's.  Whatever happens,
no service gets what is the other's, and with durable cursors each gets all of its own once.
Of two with one name it cannot be known who calls: see calvin_seq.subscriptions.
PG* lead to the pooler, DIRECT to the server.
"""
import os
import threading
import time

import psycopg

MESSAGES = 800
# told by the call: no subscription here, taken over, somebody else has committed
TOLD = ("55000", "55006", "40001")

points = 0


def point(good, description):
    global points
    points += 1
    print(("ok - " if good else "not ok - ") + description)


def connect(conninfo=""):
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


class Service(threading.Thread):
    """Receives until told to stop; whenever it is told that it is not subscribed, it subscribes."""

    def __init__(self, name, collection, durable):
        super().__init__(daemon=True)
        self.name_, self.collection, self.durable = name, collection, durable
        self.received, self.told, self.backends, self.stop = [], 0, set(), False
        self.error = None

    def once(self, db, wait="0"):
        with db.transaction():
            rows = db.execute("SELECT seq_collection(tx_class), (seq_json(plans) ->> 'number')::int, pg_backend_pid()"
                              " FROM seq_receive(7, %s, %s)", (wait, self.name_)).fetchall()
            if self.durable:
                db.execute("SELECT seq_commit(%s)", (self.name_,))
        self.received += [(collection, number) for collection, number, _ in rows]
        self.backends |= {pid for _, _, pid in rows}
        return rows

    def subscribe(self, db):
        db.execute("SELECT seq_subscribe(ARRAY[seq_vshard(%s)], %s)", (self.collection, self.name_))

    def run(self):
        try:
            with connect() as db:
                while not self.stop:
                    try:
                        self.once(db)
                    except psycopg.Error as error:
                        if error.sqlstate not in TOLD:
                            raise
                        self.told += 1
                        try:
                            self.subscribe(db)
                        except psycopg.errors.SerializationFailure:
                            pass
        except Exception as error:  # the main thread tells
            self.error = error


def scenario(title, names, durable):
    collections = [f"{title}/{number}" for number in range(len(names))]
    services = [Service(name, collection, durable) for name, collection in zip(names, collections)]
    with connect(os.environ["DIRECT"] + " user=shared") as direct:
        if durable:
            for name in set(names):
                direct.execute("SELECT seq_register(%s, ARRAY(SELECT seq_vshard(c) FROM unnest(%s::text[]) c))",
                               (name, [s.collection for s in services if s.name_ == name]))
        for service in services:
            service.start()
        with connect() as publisher:
            for number in range(MESSAGES):
                for collection in collections:
                    publisher.execute("SELECT seq_send(%s, jsonb_build_object('number', %s::int))", (collection, number))
        for service in services:
            service.stop = True
        for service in services:
            service.join(60)
            point(service.error is None and not service.is_alive(),
                  f"{service.collection} goes on, whatever it is told ({service.error})")
        told = sum(service.told for service in services)
        point(told > 0, f"{title}: calls came to sessions without the subscription, and said so ({told} times)")
        for service in services:
            foreign = [row for row in service.received if row[0] != service.collection]
            point(not foreign, f"{service.collection} got nothing of the other's"
                               f" ({len(service.received)} messages in {len(service.backends)} sessions)")
            if not durable:
                continue
            # the rest, in a session of its own
            service.subscribe(direct)
            while service.once(direct, "2s"):
                pass
            direct.execute("SELECT seq_unsubscribe(name => %s)", (service.name_,))
            point(service.received == [(service.collection, number) for number in range(MESSAGES)],
                  f"{service.collection} has got all of its own, once and in order")


scenario("two services", ("billing", "mailing"), False)
scenario("two registered services", ("invoices", "reminders"), True)

# A registered name is not shared by mistake.
with connect() as db:
    for query, sqlstate in (("SELECT seq_register('invoices', '{1}')", "42710"),
                            ("SELECT seq_subscribe('{1}', 'invoices')", "22023")):
        try:
            db.execute(query)
            point(False, f"{query}: {sqlstate}")
        except psycopg.Error as error:
            point(error.sqlstate == sqlstate, f"{query}: {sqlstate} ({error.sqlstate})")
print(f"1..{points}")
