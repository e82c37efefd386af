"""The bodies of responses to look-ups, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from models.bodies import MAX_ID_CHARACTERS

MOST_IN_A_BATCH: Final = 500
MOST_ON_A_PAGE: Final = 500

Time = Annotated[str, Meta(description="RFC 3339, UTC.", examples=["2026-03-01T09:30:00Z"])]
CustomerId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS, examples=["1516"])]
Seq = Annotated[
    int, Meta(description="The number of the customer's latest announcement; each has the next number.", examples=[17])
]


class Customer(Struct):
    """A customer's present tier, risk and profile."""

    customer_id: CustomerId
    tier: Annotated[str, Meta(description="The tier now, by the policy's names.", examples=["gold"])]
    tier_since: Time
    risk_level: Annotated[
        str, Meta(description="The level of churn risk; `none` below the lowest level.", examples=["high"])
    ]
    probability: Annotated[
        float | None, Meta(description="The probability of churn within the policy's horizon.", examples=[0.81])
    ]
    value_at_stake: Annotated[str | None, Meta(description="A decimal, in the policy's currency.", examples=["182.40"])]
    seq: Seq
    revision: Annotated[
        int | None,
        Meta(
            description="The number of the profile's latest change; it changes more often than `seq`.", examples=[203]
        ),
    ]
    profile: Annotated[
        dict[str, Any] | None, Meta(description="As on the topic `profiles`; null until the first one was published.")
    ]


class Customers(Struct):
    """Several customers."""

    customers: Annotated[list[Customer], Meta(description="The known customers, in the order of the requested ids.")]
    unknown: Annotated[list[str], Meta(description="Ids of customers who are not known.", examples=[["9999"]])]


class Member(Struct):
    """A customer of a tier."""

    customer_id: CustomerId
    since: Time


class Members(Struct):
    """A page of a tier's customers."""

    tier: Annotated[str, Meta(examples=["gold"])]
    total: Annotated[int, Meta(description="How many customers the tier has in all.", ge=0, examples=[1812])]
    first: Annotated[int, Meta(description="The place of the first one here, from 0.", ge=0)]
    customers: Annotated[list[Member], Meta(description="The longest in the tier first.")]


class Alerts(Struct):
    """A page of churn alerts."""

    total: Annotated[int, Meta(description="How many alerts fit in all.", ge=0, examples=[42])]
    first: Annotated[int, Meta(description="The place of the first one here, from 0.", ge=0)]
    alerts: Annotated[
        list[dict[str, Any]],
        Meta(
            description="Each with `customer_id` and the fields of `after` on the topic `alerts`; the most urgent first."
        ),
    ]
