"""Loyalty: a package of its own, with a participant, a database and sagas. It knows the shop's events, the shop does not know it."""
