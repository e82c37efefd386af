"""The page `/customers/{reference}`: one customer. Its contents go here and into templates/customer.html."""

from __future__ import annotations

from typing import Any

import orjson
from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from streams.web.guards import person_of
from streams.web.pages import page
from streams.web.services import Services, address_of, services


def customer_of(request: Request[Any, Any, Any], reference: str) -> str:
    """The customer that an address names for who asks. Raises NotFoundException."""
    customer_id = services(request).masks.customer_of(person_of(request), reference)
    if customer_id is None:
        raise NotFoundException("customer_unknown")
    return customer_id


@get("/customers/{reference:str}")
async def customer_page(reference: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
    """A customer, and a line in the audit trail that they were seen."""
    here: Services = services(request)
    customer_id, person = customer_of(request, reference), person_of(request)
    found = await here.directory.customer(customer_id)
    if found is None:
        raise NotFoundException("customer_unknown")
    here.audit.tell(person.name, "customer_seen", address_of(request), person.role, customer_id=customer_id)
    return page(request, "customer.html", customer_id=customer_id, customer=orjson.loads(found.body))
