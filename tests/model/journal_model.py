#!/usr/bin/env python3
# ruff: noqa
# mypy: ignore-errors
"""An exhaustive model of the journal's protocol: every order of events within the bounds, by breadth-first search.

It is about the protocol of `saga/runtime/journal.py` and `fold.py` and shares no code with them. One journal partition; one entry is one
record batch and takes one offset (a batch stands as a whole, so nothing is lost by that). Two processes that are alike. The inputs wait
in one topic; one command topic leads to a participant with an inbox, so that only the first delivery of a command can be seen.

Faults: an append that is not done, that is done with the answer lost, or that lands late (an orphan); a crash, a revocation or a time-out
at any step; an owner that is paused (it is just not scheduled) and wakes; two owners at once; a publish that lands late, or whose answer
is lost; a snapshot at any moment. A decision carries a nonce, since user code is not deterministic: one made again is another.

    python tests/model/journal_model.py                                     the protocol, exhausted within the bounds
    python tests/model/journal_model.py --flags no_republish --trace        with a mistake planted, and the way to the violation

Its `serial_publish` is how the task works: all outputs of a commit are out before the next one. `tests/model/test_model.py` runs it.
"""

import sys, time, argparse
from collections import deque

ap = argparse.ArgumentParser()
ap.add_argument(
    "--rule", choices=["epoch", "at"], default="at"
)  # a batch counts iff it stands where it says; 'epoch' (the highest owner's number wins) was rejected
ap.add_argument("--inputs", default="aba")  # key of each input, in order
ap.add_argument("--claims", type=int, default=3)
ap.add_argument("--snaps", type=int, default=1)
ap.add_argument("--orphans", type=int, default=2)  # appends in flight of dead owners at once
ap.add_argument("--max", type=int, default=1500000)
ap.add_argument("--secs", type=int, default=300)
ap.add_argument("--flags", default="")  # mutants / literal readings, comma separated
ap.add_argument("--trace", action="store_true")
a = ap.parse_args()
F = set(x for x in a.flags.split(",") if x)
KNOWN = {
    "skip_offset_check",
    "equal_epoch",
    "publish_first",
    "early_watermark",
    "no_skip",
    "rf_same_batch",
    "rf_ignores_pub",
    "skip_seq1",
    "skip_outputs",
    "readopt",
    "no_republish",
    "epoch_last_record",
    "no_claim",
    "dup",
    "republish_after_new",
    "count_void",
    "serial_publish",
    "read_from_pub",
    "owner_loses_pubq",
    "stale_part",
}
assert F <= KNOWN, F - KNOWN
AT = a.rule == "at"
INP = tuple("ab".index(c) for c in a.inputs)
N = len(INP)

# entry: ('C', epoch, None, rf) | ('B', epoch, at, rf, nonce, dec, pub, pos, snap)
#   dec = (key, seq, input, nonce) doubles as its command id;  snap = ('b', keyA state) | ('e', begin offset, keyB state)
J = [()]
JID = {(): 0}


def intern(t):
    i = JID.get(t)
    if i is None:
        i = JID[t] = len(J)
        J.append(t)
    return i


amemo = {}


def append(j, e):
    r = amemo.get((j, e))
    if r is None:
        r = amemo[(j, e)] = intern(J[j] + (e,))
    return r


fmemo = {}


def fold(j, start, end):
    """-> (ok, epoch, keys, pos, pub, outs, rf, last_counts, problems)"""
    k = (j, start, end)
    r = fmemo.get(k)
    if r is None:
        r = fmemo[k] = _fold(J[j], start, end)
    return r


def _fold(log, start, end):
    cur = 0
    pos = 0
    pub = 0
    rf = 0
    outs = []
    prob = []
    counts = True
    keys = [(), ()]
    unseen = [False, False]
    insnap = False
    first = start
    outs_only_until = start
    if start > 0:
        keys = [None, None]
        insnap = True
        e = log[start]
        if e[0] != "B" or not e[8] or e[8][0] != "b":
            return (False, 0, (), 0, 0, (), 0, False, ("start is no snapshot begin",))
        cur = e[1]
    for i in range(start, end):
        e = log[i]
        if e[0] == "C":
            counts = AT or (e[1] >= cur if "equal_epoch" in F else e[1] > cur)
            if counts:
                cur = max(cur, e[1])
            continue
        counts = (e[2] == i) if AT else (e[1] == cur)
        if "count_void" in F and start > 0:
            counts = True
        if not counts:
            continue
        _, ep, at, erf, nonce, dec, epub, epos, snap = e
        rf = max(rf, erf)
        pub = max(pub, epub)
        if epos < pos:
            prob.append("position went back")
        pos = epos
        if dec:
            key, seq, inp, non = dec
            if keys[key] is None:
                if not insnap:
                    prob.append("unknown key after snapshot end")
                elif "no_skip" in F:
                    keys[key] = ((inp, non),)
                elif seq == 1 and "skip_seq1" not in F:
                    keys[key] = ((inp, non),)
                if "skip_outputs" not in F:
                    outs.append((i, dec))
            else:
                if len(keys[key]) + 1 != seq:
                    prob.append("seq not dense")
                keys[key] = keys[key] + ((inp, non),)
                outs.append((i, dec))
        if snap and start > 0:
            if snap[0] == "b" and i == start:
                if snap[1]:
                    keys[0] = snap[1]
            if snap[0] == "e" and snap[1] == start:
                if snap[2] and "no_skip" not in F:
                    keys[1] = snap[2]
                elif snap[2]:
                    keys[1] = snap[2] if keys[1] is None else keys[1]
                insnap = False
                for q in (0, 1):
                    if keys[q] is None:
                        keys[q] = ()  # not in the snapshot, never seen: a key that does not exist
    if start > 0 and insnap:
        prob.append("snapshot has no end")
    return (not prob, cur, tuple(keys), pos, pub, tuple(outs), rf, counts, tuple(prob))


# process: () idle | ('c', entry, off) claim sent | ('r', exp, epoch, nonce, keys, pos, rf, snap, pubq, pend)
#   snap: -1 none, else begin offset; pend: None | (entry, off or None); pubq: ((offset, cmd), ...), first = being sent
def pubmark(exp, pubq):
    if "early_watermark" in F:
        return exp
    return pubq[0][0] if pubq else exp


def mk(exp, epoch, nonce, rf, pubq, pos, dec=None, snap=None):
    return ("B", epoch, exp, rf, nonce, dec, pubmark(exp, pubq), pos, snap)


class Bad(Exception):
    pass


def first_prefix(got, want):
    return got == want[: len(got)]


jchecked = {}


def check_journal(j):
    if j in jchecked:
        return jchecked[j]
    log = J[j]
    n = len(log)
    full = fold(j, 0, n)
    if not full[0]:
        raise Bad("fold from 0: " + "; ".join(full[8]))
    dec = [[], []]
    ins = []
    for i, d in full[5]:
        dec[d[0]].append(d)
        ins.append(d[2])
    if ins != list(range(len(ins))) or len(ins) != full[3]:
        raise Bad("inputs decided %s, position %d" % (ins, full[3]))
    want = (tuple(dec[0]), tuple(dec[1]))
    for s in {e[3] for e in log} - {0}:
        f = fold(j, s, n)
        if not f[0]:
            raise Bad("fold from named restore_from %d: %s" % (s, "; ".join(f[8])))
        if f[2 if AT else 1 : 4] != full[2 if AT else 1 : 4]:
            raise Bad("fold from restore_from %d differs: %s vs %s" % (s, f[1:4], full[1:4]))
    for i, e in enumerate(log):  # every complete snapshot, named or not
        if e[0] == "B" and e[8] and e[8][0] == "e" and fold(j, 0, i + 1)[7]:
            f = fold(j, e[8][1], n)
            if not f[0]:
                raise Bad("fold from complete snapshot %d: %s" % (e[8][1], "; ".join(f[8])))
            if f[2:4] != full[2:4]:
                raise Bad("fold from complete snapshot %d differs: %s vs %s" % (e[8][1], f[2:4], full[2:4]))
    jchecked[j] = want
    return want


rchecked = {}


def check_recover(j, got):
    """a fresh process restores now as the design says, publishes again, nothing may be lost or out of order"""
    if (j, got) in rchecked:
        return
    rchecked[(j, got)] = 1
    want = check_journal(j)
    for q in (0, 1):
        if not set(got[q]) <= set(want[q]):
            raise Bad("participant got a command of no valid decision: %s valid %s" % (got[q], want[q]))
        if not first_prefix(got[q], want[q]):
            raise Bad("order of first deliveries %s, decided %s" % (got[q], want[q]))
    log = J[j]
    if not log:
        return
    pq = restore_outputs(j, log[-1][3], len(log))
    g = [list(got[0]), list(got[1])]
    for _, c in pq:
        if c not in g[c[0]]:
            g[c[0]].append(c)
    for q in (0, 1):
        if tuple(g[q]) != want[q]:
            raise Bad("after recovery the participant has %s, decided %s" % (g[q], want[q]))


def restore_outputs(j, rf, end):
    if "no_republish" in F:
        return ()
    f = fold(j, rf, end)
    outs = f[5]
    if "read_from_pub" in F and f[4] < rf:  # alternative fix: also read outputs from `published` on
        outs = fold(j, 0, end)[5]
    return tuple(o for o in outs if o[0] >= f[4])


def die(st, i, extra_keep=None):
    """process i drops everything: what it had in flight may still land"""
    j, procs, orph, ocmd, got, claims, snaps = st
    p = procs[i]
    if p and p[0] == "c" and p[2] is None:
        orph = orph + (p[1],)
    if p and p[0] == "r":
        if p[9] and p[9][1] is None:
            orph = orph + (p[9][0],)
        if p[8]:
            ocmd = ocmd | {p[8][0][1]}
    return (j, procs[:i] + (extra_keep or (),) + procs[i + 1 :], orph, ocmd, got, claims, snaps)


def deliver(got, c):
    if c in got[c[0]]:
        return got
    return (got[0] + (c,), got[1]) if c[0] == 0 else (got[0], got[1] + (c,))


def canon(st):
    j, procs, orph, ocmd, got, claims, snaps = st
    procs = tuple(sorted(procs, key=repr)) if procs[0] != procs[1] else procs
    ocmd = frozenset(c for c in ocmd if c not in got[c[0]])
    return (j, procs, tuple(sorted(orph, key=repr)), ocmd, got, claims, snaps)


def succ(st):
    j, procs, orph, ocmd, got, claims, snaps = st
    log = J[j]
    n = len(log)
    for x in range(len(orph)):  # late appends
        rest = orph[:x] + orph[x + 1 :]
        yield "late append %s" % (orph[x],), (append(j, orph[x]), procs, rest, ocmd, got, claims, snaps)
    for c in ocmd:
        yield "late publish %s" % (c,), (j, procs, orph, ocmd - {c}, deliver(got, c), claims, snaps)
    for i in (0, 1):
        p = procs[i]
        if i == 1 and p == procs[0]:
            continue
        put = lambda q, j=j, orph=orph, got=got, ocmd=ocmd, claims=claims, snaps=snaps: (
            j,
            procs[:i] + (q,) + procs[i + 1 :],
            orph,
            ocmd,
            got,
            claims,
            snaps,
        )
        if not p:
            if claims:
                last = log[-1] if log else None
                rf = last[3] if last else 0
                if last is None:
                    ep = 1
                elif "epoch_last_record" in F:
                    ep = last[1] + 1
                else:
                    ep = fold(j, rf, n)[1] + 1
                if "no_claim" in F:  # rule 'at' without claims: read to the end, go
                    yield "adopt without claim", put(restore(j, rf, n, n, ep), claims=claims - 1)
                else:
                    yield "claim epoch %d sent" % ep, put(("c", ("C", ep, None, rf), None), claims=claims - 1)
            continue
        if len(orph) < a.orphans or (p[0] == "r" and (not p[9] or p[9][1] is not None)) or (p[0] == "c" and p[2] is not None):
            yield "crash/time-out %d" % i, die(st, i)
        if p[0] == "c":
            if p[2] is None:
                yield "claim appended at %d" % n, put(("c", p[1], n), j=append(j, p[1]))
            else:
                off = p[2]
                f = fold(j, 0, off + 1)
                if AT or fold(j, p[1][3], off + 1)[7]:
                    yield "claim %d acked, restored" % off, put(restore(j, p[1][3], off + 1, off + 1, p[1][1]))
                else:
                    yield "claim %d void" % off, put(())
            continue
        _, exp, ep, non, keys, pos, rf, snap, pubq, pend = p
        if pend is None:
            serial_ok = not ("serial_publish" in F and pubq)
            if pos < N and serial_ok:
                k = INP[pos]
                dec = (k, len(keys[k]) + 1, pos, non)
                e = mk(exp, ep, non, rf, pubq, pos + 1, dec)
                pq = pubq + ((exp, dec),) if "publish_first" in F else pubq
                yield "send decision %s at %d" % (dec, exp), put(("r", exp, ep, non, keys, pos, rf, snap, pq, (e, None)))
            if snaps and snap < 0 and pos and serial_ok:
                e = mk(exp, ep, non, rf, pubq, pos, None, ("b", keys[0]))
                yield (
                    "send snapshot begin at %d" % exp,
                    put(("r", exp, ep, non, keys, pos, rf, snap, pubq, (e, None)), snaps=snaps - 1),
                )
            if snap >= 0 and serial_ok:
                r2 = snap if "rf_same_batch" in F else rf
                e = mk(exp, ep, non, r2, pubq, pos, None, ("e", snap, keys[1]))
                yield "send snapshot end at %d" % exp, put(("r", exp, ep, non, keys, pos, rf, snap, pubq, (e, None)))
        else:
            e, off = pend
            if off is None:
                yield "append %s lands at %d" % (e, n), put(("r", exp, ep, non, keys, pos, rf, snap, pubq, (e, n)), j=append(j, e))
                if "dup" in F:
                    yield (
                        "append %s lands TWICE at %d" % (e, n),
                        put(("r", exp, ep, non, keys, pos, rf, snap, pubq, (e, n)), j=append(append(j, e), e)),
                    )
                if (
                    "readopt" in F and n == exp and len(orph) < a.orphans
                ):  # revoked, append abandoned, back again: "journal has not grown"
                    yield (
                        "append abandoned, re-adopted",
                        put(("r", exp, ep, non, keys, pos, rf, snap, pubq, None), orph=orph + (e,)),
                    )
            else:
                if off == exp or "skip_offset_check" in F:
                    k2 = keys
                    pq = pubq
                    s2 = snap
                    rf2 = rf
                    if e[5]:
                        d = e[5]
                        k2 = tuple(keys[q] + ((d[2], d[3]),) if q == d[0] else keys[q] for q in (0, 1))
                        if "publish_first" not in F:
                            pq = ((off, d),) + pubq if "republish_after_new" in F else pubq + ((off, d),)
                    if e[8] and e[8][0] == "b":
                        s2 = off
                    if e[8] and e[8][0] == "e":
                        s2 = -2 - snap  # complete, waits to be named
                    q = ("r", off + 1, ep, non, k2, e[7], rf2, s2, pq, None)
                    q = name_snapshot(q)
                    f = fold(j, 0, off + 1)
                    if "skip_offset_check" not in F:
                        if not f[7]:
                            raise Bad("owner believes a void batch")
                        if f[2] != k2 or f[3] != e[7]:
                            raise Bad("owner memory %s differs from fold %s" % ((k2, e[7]), f[2:4]))
                    yield "acked at %d" % off, put(q)
                else:
                    yield "acked at %d, expected %d: lost" % (off, exp), die(st, i)
        if pubq:
            c = pubq[0][1]
            if c not in got[c[0]]:
                yield "publish %s" % (c,), put(p, got=deliver(got, c))
            else:
                yield "publish acked", put(name_snapshot(("r", exp, ep, non, keys, pos, rf, snap, pubq[1:], pend)))


def name_snapshot(p):
    _, exp, ep, non, keys, pos, rf, snap, pubq, pend = p
    if snap <= -2 and ("rf_ignores_pub" in F or "read_from_pub" in F or pubmark(exp, pubq) >= -2 - snap):
        return ("r", exp, ep, non, keys, pos, -2 - snap, -1, pubq, pend)
    return p


def restore(j, rf, end, exp, ep):
    f = fold(j, rf, end)
    if not f[0]:
        raise Bad("restore from %d to %d: %s" % (rf, end, "; ".join(f[8])))
    return ("r", exp, ep, end - 1, f[2], f[3], max(f[6], rf), -1, restore_outputs(j, rf, end), None)


def main():
    t0 = time.time()
    s0 = canon((0, ((), ()), (), frozenset(), ((), ()), a.claims, a.snaps))
    PI = {}
    PL = []

    def pid(x):
        i = PI.get(x)
        if i is None:
            i = PI[x] = len(PL)
            PL.append(x)
        return i

    def enc(s):
        return (s[0], pid(s[1][0]), pid(s[1][1]), pid(s[2]), pid(s[3]), pid(s[4]), s[5], s[6])

    def dec(c):
        return (c[0], (PL[c[1]], PL[c[2]]), PL[c[3]], PL[c[4]], PL[c[5]], c[6], c[7])

    c0 = enc(s0)
    parent = {c0: None}
    q = deque([c0])
    trans = 0
    verdict = "PASS (exhausted)"
    bad = None
    maxlen = 0
    done = voids = 0
    while q:
        c = q.popleft()
        s = dec(c)
        try:
            check_recover(s[0], s[4])
            for act, t in succ(s):
                trans += 1
                ct = enc(canon(t))
                if ct not in parent:
                    parent[ct] = c
                    q.append(ct)
        except Bad as e:
            verdict = "VIOLATION: %s" % e
            bad = c
            break
        if len(parent) > a.max or time.time() - t0 > a.secs:
            verdict = "no violation, bound reached (NOT exhausted)"
            break
    full = sum(1 for j in jchecked if fold(j, 0, len(J[j]))[3] == N)
    void = sum(1 for j in jchecked if any(not fold(j, 0, i + 1)[7] for i in range(len(J[j]))))
    rfs = sum(1 for j in jchecked if any(e[3] for e in J[j]))
    print(
        "%-6s %-32s inputs=%s claims=%d snaps=%d: %d states %d transitions %d journals (all inputs decided %d, with void entry %d, with restore_from %d) longest %d  %.0fs  %s"
        % (
            a.rule,
            a.flags or "base",
            a.inputs,
            a.claims,
            a.snaps,
            len(parent),
            trans,
            len(jchecked),
            full,
            void,
            rfs,
            max(len(x) for x in J),
            time.time() - t0,
            verdict,
        ),
        flush=True,
    )
    if bad is not None and a.trace:
        path = []
        while bad is not None:
            path.append(bad)
            bad = parent[bad]
        path.reverse()
        for x, y in zip(path, path[1:]):
            for act, t in succ(dec(x)):
                if enc(canon(t)) == y:
                    print("   ", act)
                    break
        print("    journal:", *J[path[-1][0]], sep="\n        ")


main()
