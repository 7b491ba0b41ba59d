"""Who the customers of this example are, and what each service knew of them yesterday."""

from __future__ import annotations

from enum import StrEnum
from random import Random

from topics.customer import ChangeAsked

PLANS = {"basic": 900, "plus": 1900, "pro": 4900}  # cents a month
MOST = 1_000  # customers of a kind


class Kind(StrEnum):
    """What is to become of a customer's change."""

    REGULAR = "regular"  # all know them: it goes through
    NEW = "new"  # the CRM does not know them yet: it is late, takes them over, and all is well
    NAMELESS = "nameless"  # the same, but without an e-mail address: the CRM never takes them, so all is undone
    DEBTOR = "debtor"  # billing says no, so all is undone


ROUND = (
    Kind.REGULAR,
    Kind.NEW,
    Kind.REGULAR,
    Kind.NAMELESS,
    Kind.REGULAR,
    Kind.DEBTOR,
    Kind.REGULAR,
)


def customer(kind: Kind, number: int) -> str:
    return f"{kind}-{number:03}"


def kind_of(customer_id: str) -> Kind:
    return Kind(customer_id.partition("-")[0])


def email(customer_id: str) -> str:
    return "" if kind_of(customer_id) is Kind.NAMELESS else f"{customer_id}@example.org"


def known_to_crm() -> list[str]:
    return [customer(kind, number) for kind in (Kind.REGULAR, Kind.DEBTOR) for number in range(MOST)]


def in_debt() -> list[str]:
    return [customer(Kind.DEBTOR, number) for number in range(MOST)]


def wishes(count: int, random: Random) -> list[ChangeAsked]:
    """So many changes. The first customer of each round comes back after it and changes once more."""
    made: list[ChangeAsked] = []
    for number in range(count):
        turn, place = divmod(number, len(ROUND) + 1)
        again = place == len(ROUND)
        who = customer(ROUND[0 if again else place], turn * len(ROUND) + (0 if again else place))
        nth = 2 if again else 1
        plan = random.choice(sorted(PLANS))
        made.append(ChangeAsked(change_id=f"{who}-{nth}", customer_id=who, number=nth, plan=plan, email=email(who)))
    return made
