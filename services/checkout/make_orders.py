"""Made orders.jsonl and stock.json, once: `python -m services.checkout.make_orders`. The same seed gives the same files.

Each line of orders.jsonl is the body of one POST /orders. Some orders cannot be fulfilled, and some are paid or shipped the hard way;
the shares are in PAYMENTS and TROUBLE. They are mixed, so that any beginning of the file is as varied as the whole.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from services.checkout.settings import HERE

SEED = 20261122
COUNT = 300

# Article → price in euro cents, and how many there are. Of the last four there are too few, or none.
ARTICLES = {
    "TEA-EARL-GREY": (995, 900),
    "TEA-DARJEELING": (1290, 900),
    "TEA-SENCHA": (1490, 900),
    "TEA-ROOIBOS": (690, 900),
    "COFFEE-HOUSE": (890, 900),
    "COFFEE-DECAF": (950, 900),
    "CUP-BLUE": (1200, 500),
    "CUP-WHITE": (1100, 500),
    "POT-STONEWARE": (4900, 300),
    "POT-GLASS": (3500, 300),
    "KETTLE-COPPER": (12900, 200),
    "SPOON-SILVER": (2300, 400),
    "SUGAR-CANE": (450, 900),
    "HONEY-HEATHER": (750, 900),
    "BISCUIT-OAT": (390, 900),
    "CAKE-LEMON": (1850, 300),
    "POT-CAST-IRON": (8900, 4),
    "CUP-GOLD-RIM": (5900, 3),
    "KETTLE-ANTIQUE": (39900, 1),
    "TEA-GYOKURO": (6400, 0),
}
PLENTY, SCARCE = list(ARTICLES)[:16], list(ARTICLES)[16:]
PER_EURO = {"EUR": 1.0, "USD": 1.1, "GBP": 0.85, "JPY": 1.6}  # minor units for a euro cent; a yen has no smaller coin

# Country → currency, street, city, postcode. Alpine Freight, which serves AT and CH, answers later than the saga waits.
PLACES = [
    ("DE", "EUR", "Lindenstraße", "Berlin", "10969"),
    ("DE", "EUR", "Marienplatz", "München", "80331"),
    ("FR", "EUR", "Rue des Rosiers", "Paris", "75004"),
    ("NL", "EUR", "Prinsengracht", "Amsterdam", "1015 DV"),
    ("IT", "EUR", "Via Garibaldi", "Torino", "10122"),
    ("ES", "EUR", "Calle Mayor", "Madrid", "28013"),
    ("GB", "GBP", "Baker Street", "London", "NW1 6XE"),
    ("GB", "GBP", "Royal Mile", "Edinburgh", "EH1 1RE"),
    ("IE", "EUR", "Grafton Street", "Dublin", "D02 VF65"),
    ("US", "USD", "Main Street", "Springfield", "62701"),
    ("US", "USD", "Mission Street", "San Francisco", "94103"),
    ("CA", "USD", "Queen Street", "Toronto", "M5V 2B7"),
    ("JP", "JPY", "三条通", "京都市", "604-8083"),
]
LATE = [("AT", "EUR", "Mariahilfer Straße", "Wien", "1060"), ("CH", "EUR", "Limmatquai", "Zürich", "8001")]
REFUSED = [
    ("FR", "EUR", "Rue de Paris", "Saint-Denis", "97400"),
    ("GB", "GBP", "King Street", "Saint Helier", "JE2 4WE"),
    ("US", "USD", "Mission Road", "Ketchikan", "99901"),
    ("BR", "USD", "Rua Augusta", "São Paulo", "01305-000"),
]
NAMES = [
    "Ada Lind",
    "Bao Nguyen",
    "Chloé Martin",
    "Dmitri Orlov",
    "Elif Kaya",
    "Femi Adeyemi",
    "Grace O'Neill",
    "Hana 山田",
    "Íñigo Paz",
    "Jörg Weiß",
    "Kiri Te Whare",
    "Luca Rossi",
    "María José Gil",
    "Noor Haddad",
    "Oluwaseun Ade",
    "Petra Nováková",
    "Quentin Dubois",
    "Rosa Kim",
    "Søren Dahl",
    "Tomasz Wójcik",
]

# Card → per mille of the orders. What each does is written in gateway.py.
PAYMENTS = {"tok_declined": 80, "tok_lost_answer": 40, "tok_slow": 40, "tok_timeout": 25, "tok_flaky": 40, "tok_silent": 10}
GOOD_CARDS = ["tok_visa", "tok_mastercard", "tok_amex", "tok_jcb"]
TROUBLE = {"scarce": 100, "refused": 50, "late": 60}  # per mille; the scarce articles serve a few before they are gone


def make_orders(random: Random) -> list[dict[str, Any]]:
    """Orders in the shares that are stated, shuffled."""
    cards = [card for card, share in PAYMENTS.items() for _ in range(COUNT * share // 1000)]
    cards += [random.choice(GOOD_CARDS) for _ in range(COUNT - len(cards))]
    troubles = [trouble for trouble, share in TROUBLE.items() for _ in range(COUNT * share // 1000)]
    troubles += [""] * (COUNT - len(troubles))
    random.shuffle(cards)
    random.shuffle(troubles)
    return [make_order(random, number, *both) for number, both in enumerate(zip(cards, troubles, strict=True), 1)]


def make_order(random: Random, number: int, card: str, trouble: str) -> dict[str, Any]:
    places = {"refused": REFUSED, "late": LATE}.get(trouble, PLACES)
    country, currency, street, city, postcode = random.choice(places)
    skus = random.sample(PLENTY, random.choice([1, 1, 1, 2, 2, 3, 4, 6]))
    if trouble == "scarce":
        skus.insert(random.randrange(len(skus) + 1), random.choice(SCARCE))
    who = random.randrange(len(NAMES))
    return {
        "order_id": f"order-{number:04}",
        "customer": {"customer_id": f"customer-{who:03}", "name": NAMES[who], "email": f"customer-{who:03}@mail.example"},
        "address": {"street": f"{street} {random.randint(1, 199)}", "city": city, "postcode": postcode, "country": country},
        "lines": [make_line(random, sku, currency) for sku in skus],
        "card": card,
    }


def make_line(random: Random, sku: str, currency: str) -> dict[str, Any]:
    quantity = 1 if sku in SCARCE else random.choice([1, 1, 1, 2, 3])
    price = round(ARTICLES[sku][0] * PER_EURO[currency])
    return {"sku": sku, "quantity": quantity, "unit_price": {"minor": price, "currency": currency}}


def as_lines(orders: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(order, ensure_ascii=False) + "\n" for order in orders)


def stock_text() -> str:
    return json.dumps({sku: count for sku, (_, count) in ARTICLES.items()}, indent=2) + "\n"


def main() -> None:
    (HERE / "orders.jsonl").write_text(as_lines(make_orders(Random(SEED))), encoding="utf-8")
    (HERE / "stock.json").write_text(stock_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
