"""Was everything done once, and in order?  What the log has, what was acknowledged, what was written."""
from collections import Counter

LOG = """SELECT v, r.epoch, r.position, (p ->> 'c')::int, (p ->> 'n')::int FROM unnest(%s) v, LATERAL seq_replay(v, 0, 9223372036854775807) r,
    LATERAL seq_json(r.plans) p ORDER BY 1, 2, 3"""
EFFECTS = "SELECT vshard, epoch, position, client, number FROM effects WHERE reader = %s ORDER BY id"


def some(items):
    items = sorted(items)
    return f"{len(items)}: {items[:3]}{' ...' if len(items) > 3 else ''}" if items else "none"


class Figures:
    def __init__(self, answers, log):
        # a transaction of several vshards is there once for each
        txns = {(epoch, position): (client, number) for _, epoch, position, client, number in log}
        times = Counter(txns.values())
        of = {outcome: {(a[1], a[2]) for a in answers if a[0] == outcome} for outcome in "AUR"}
        self.submitted = len(answers)
        self.acknowledged = len(of["A"])
        self.unknown, self.unknown_there = len(of["U"]), len(of["U"] & set(times))
        self.refused = len(of["R"])
        self.lost = of["A"] - set(times)
        self.twice = {what for what, n in times.items() if n > 1}
        self.refused_there = of["R"] & set(times)
        self.strange = set(times) - of["A"] - of["U"] - of["R"]
        self.txns = txns


def disordered(log, answers):
    """Acknowledged submissions of one connection to one collection that do not stand in the order of the calls."""
    acknowledged = {(a[1], a[2]) for a in answers if a[0] == "A"}
    last, found = {}, set()
    for _, _, _, client, number in sorted(log, key=lambda row: (row[1], row[2])):
        if (client, number) in acknowledged:
            where = (client, number % 4)
            if last.get(where, 0) > number:
                found.add((client, number))
            last[where] = number
    return found


def effects_of(follower, reader):
    return follower.sql(EFFECTS, (reader,), limit_s=120)


def out_of_order(rows):
    last, found = {}, set()
    for vshard, epoch, position, _, _ in rows:
        if last.get(vshard, (-1, -1)) >= (epoch, position):
            found.add((vshard, epoch, position))
        last[vshard] = max(last.get(vshard, (-1, -1)), (epoch, position))
    return found
