"""Actions on alerts from a page: `POST /customers/{reference}/act` with JSON, and the session's token in X-CSRF-Token."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, post
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromPath, JSONBody
from litestar.response.base import ASGIResponse

from streams.language.console_words import words
from streams.web.pages.customer_page import customer_of
from streams.web.pages.rendering import language
from streams.web.services.alert_commands import AlertAction, AlertActionError, act_on_alert
from streams.web.services.container import address_of, services
from streams.web.services.guards import person_of
from streams.web.services.record_sender import NotAcknowledged


@post("/customers/{reference:str}/act", status_code=202)
async def act(reference: FromPath[str], data: JSONBody[AlertAction], request: Request[Any, Any, Any]) -> ASGIResponse:
    """Answer 202 once the broker has acknowledged the command; 422 or 503, with a sentence, if the action was refused
    or failed.
    """
    here, person, customer_id = services(request), person_of(request), customer_of(request, reference)
    entry: dict[str, Any] = {"customer_id": customer_id, "action": data.action}
    if not person.may("agent"):
        here.audit.record(person.name, "refused", address_of(request), person.role, **entry)
        raise PermissionDeniedException("not_allowed")
    try:
        command = await act_on_alert(here.commands, data, customer_id, person, await here.clock.now_ms())
    except AlertActionError as error:
        return _json(422, {"detail": words(language(request))(error.key, **error.values)})
    except NotAcknowledged as error:
        here.audit.record(person.name, "act_failed", address_of(request), person.role, reason=str(error), **entry)
        return _json(503, {"detail": words(language(request))("broker_away")})
    here.audit.record(person.name, "acted", address_of(request), person.role, command=command, **entry)
    return _json(202, {"event_id": command["event_id"]})


def _json(status: int, body: dict[str, Any]) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(body), status_code=status, headers={"cache-control": "no-store"})
