"""The shipped orders: valid, varied, and made by the script that says so."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

from services.checkout import make_orders
from services.checkout.carriers import CARRIERS, not_served
from services.checkout.order import NewOrder
from services.checkout.settings import HERE

LINES = (HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()
ORDERS = [NewOrder.model_validate_json(line) for line in LINES]
STOCK: dict[str, int] = json.loads((HERE / "stock.json").read_text(encoding="utf-8"))


def served(order: NewOrder) -> bool:
    return any(order.address.country in c.countries and not not_served(c, order.address) for c in CARRIERS)


def test_the_files_are_what_the_script_makes() -> None:
    assert make_orders.as_lines(make_orders.make_orders(Random(make_orders.SEED))).splitlines() == LINES
    assert json.loads(make_orders.stock_text()) == STOCK


def test_every_order_is_one_that_the_order_service_takes() -> None:
    assert len(ORDERS) == 300
    assert len({order.order_id for order in ORDERS}) == 300
    assert all(order.total().minor > 0 for order in ORDERS)
    assert {line.sku for order in ORDERS for line in order.lines} <= STOCK.keys()


def test_orders_differ_in_country_currency_article_and_size() -> None:
    assert {order.total().currency for order in ORDERS} == {"EUR", "USD", "GBP", "JPY"}
    assert len({order.address.country for order in ORDERS}) >= 12
    assert len({line.sku for order in ORDERS for line in order.lines}) == len(STOCK)
    assert {len(order.lines) for order in ORDERS} >= {1, 2, 3, 4}


def test_every_kind_of_trouble_is_among_the_first_sixty_and_in_its_share_in_all() -> None:
    def share(of: list[NewOrder]) -> Counter[str]:
        wanted: Counter[str] = Counter()
        for order in of:
            wanted[order.card if order.card in make_orders.PAYMENTS else "good card"] += 1
            wanted["refused address" if not served(order) else "served"] += 1
            wanted["late carrier" if order.address.country in ("AT", "CH") else "prompt"] += 1
        return wanted

    whole = share(ORDERS)
    assert 20 <= whole["tok_declined"] <= 28
    assert 12 <= whole["refused address"] <= 18
    assert 15 <= whole["late carrier"] <= 21
    first = share(ORDERS[:60])
    assert all(first[kind] for kind in (*make_orders.PAYMENTS, "refused address", "late carrier") if kind != "tok_silent"), first


def test_some_orders_find_no_stock_and_most_do() -> None:
    wanted: Counter[str] = Counter()
    for order in ORDERS:
        for line in order.lines:
            wanted[line.sku] += line.quantity
    short = {sku: wanted[sku] - count for sku, count in STOCK.items() if wanted[sku] > count}
    assert set(short) == set(make_orders.SCARCE)
    assert 15 <= sum(short.values()) <= 30, f"pieces that are asked for and not there: {short}"
