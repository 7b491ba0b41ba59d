"""Values that several messages carry. They are immutable and compare by what they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# ISO 4217: the currencies we take, and how many digits their minor unit has (a yen has no smaller coin).
MINOR_DIGITS = {"EUR": 2, "GBP": 2, "JPY": 0, "USD": 2}

MAX_MINOR = 2**53 - 1  # JSON numbers are exact up to here in every language (RFC 8259, section 6)

Text = Annotated[str, Field(min_length=1, max_length=200)]
Sku = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9-]{0,39}$")]
OrderId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
CardToken = Annotated[str, Field(pattern=r"^tok_[a-z0-9_]{1,60}$")]  # the gateway's name for a card; never its number


class Value(BaseModel):
    """Unknown fields are ignored, as in messages: a sender may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Money(Value):
    """An amount in minor units (cents, pence, whole yen) of an ISO 4217 currency; never a float."""

    minor: int = Field(ge=0, le=MAX_MINOR, strict=True)
    currency: str = Field(pattern=r"^[A-Z]{3}$")

    def times(self, count: int) -> Money:
        return Money(minor=self.minor * count, currency=self.currency)

    def __str__(self) -> str:
        """As a person reads it: `19.90 EUR`, `1200 JPY`."""
        digits = MINOR_DIGITS.get(self.currency, 2)
        whole, rest = divmod(self.minor, 10**digits)
        return f"{whole}.{rest:0{digits}} {self.currency}" if digits else f"{whole} {self.currency}"


def total(amounts: Iterable[Money]) -> Money:
    """The sum. Raises ValueError for amounts in several currencies, or for none: there is no money without a currency."""
    given = list(amounts)
    currencies = sorted({amount.currency for amount in given})
    if len(currencies) != 1:
        raise ValueError(f"amounts in {len(currencies)} currencies cannot be added: {currencies}")
    return Money(minor=sum(amount.minor for amount in given), currency=currencies[0])


class Address(Value):
    street: Text
    city: Text
    postcode: Annotated[str, Field(min_length=1, max_length=16)]
    country: str = Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2")


class Customer(Value):
    customer_id: Text
    name: Text
    # One address (RFC 5322's dot-atom: no dot at either end, nor two in a row) and nothing that could start another header; whether it
    # can be reached only a mail server knows.
    email: Annotated[str, Field(max_length=254, pattern=r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")]


class Line(Value):
    """So many pieces of one article, at a price each."""

    sku: Sku
    quantity: int = Field(ge=1, le=1000, strict=True)
    unit_price: Money
