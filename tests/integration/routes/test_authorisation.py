"""What the description of the API says of the routes; who may use them: tests/acceptance/test_authorisation.py."""

from tests.support.routes import Proxy


async def test_description_of_the_routes_names_each_once_with_its_parameters(proxy: Proxy) -> None:
    described = proxy.web.openapi()
    parameters = {each["name"] for each in described["paths"]["/spend/logs"]["get"]["parameters"]}
    assert {"start_date", "end_user", "cursor"} <= parameters
    assert {each["name"] for each in described["paths"]["/ledger/calls/{call_id}/events"]["get"]["parameters"]} >= {
        "call_id",
        "after",
        "bodies",
    }
    assert all("head" not in path for path in described["paths"].values())
