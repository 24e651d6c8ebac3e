"""The API keeps what its schema promises, whatever it is asked; docs/page.md has the command for thousands of cases."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.schemas import BaseSchema

from tests.serve import hooks  # noqa: F401  registers images


@pytest.fixture
def api(server: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{server}/api/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_keeps_its_schema(case: schemathesis.Case) -> None:
    case.call_and_validate(timeout=60)
