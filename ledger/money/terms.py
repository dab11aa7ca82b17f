"""Under which terms an attempt is priced: its price, the tool list's, and the factors on token prices.

Answers one question, the unit price of a meter, or says why it has none. `cost` multiplies.
"""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from ledger.money.billable import Billable
from ledger.money.book import PriceBook, Unpriced
from ledger.money.exact import EXACT, fits, plain
from ledger.money.price import Price
from ledger.money.request import RequestFacts
from ledger.money.tariff import TOOLS_MODEL, regional_factor, window_factor
from ledger.money.usage import IMAGE_METERS, TOKEN_METERS

_WINDOWS_WITHOUT_DISCOUNT = frozenset({"", "soonest"})
_ONE = Decimal(1)


class UnitPrice(NamedTuple):
    """USD for one unit, and the price it stands in where that is not the attempt's own."""

    usd: Decimal
    price_id: str | None = None


class Terms:
    """The unit prices of one attempt. `notes` say what changed the token prices, `gaps` what is not known of them."""

    def __init__(
        self, price: Price, *, prices: PriceBook, at: datetime, request: RequestFacts, region: str, input_tokens: int
    ) -> None:
        self.notes: list[str] = []
        self.gaps: list[str] = []
        self._price = price
        self._prices = prices
        self._at = at
        self._input_tokens = input_tokens
        self._factor = self._window(request)
        self._uplift = self._regional(region)

    def unit_price(self, billable: Billable) -> UnitPrice | str:
        """What one unit costs, or why that cannot be said."""
        meter = billable.meter
        if meter in TOKEN_METERS or meter == "search_content":
            return self._token_price(billable)
        if meter in IMAGE_METERS:
            return self._listed(billable, billable.model)
        own = self._price.unit_price(meter, self._input_tokens)
        return self._listed(billable, TOOLS_MODEL) if own is None else UnitPrice(own)

    def _token_price(self, billable: Billable) -> UnitPrice | str:
        meter = "input_uncached" if billable.meter == "search_content" else billable.meter
        usd = self._price.unit_price(meter, self._input_tokens)
        if usd is None:
            return f"{billable.meter} ({billable.quantity}) has no price for {self._price.model!r}"
        if self._factor is None:
            return ""
        usd = EXACT.multiply(EXACT.multiply(usd, self._factor), self._uplift)
        if not fits(usd):
            return f"{billable.meter}: {plain(usd)} USD after discount and uplift needs more than 12 decimals"
        return UnitPrice(usd)

    def _listed(self, billable: Billable, model: str) -> UnitPrice | str:
        price = self._prices.find(model, "default", self._at)
        if isinstance(price, Unpriced):
            return f"{billable.meter} ({billable.quantity}): {price.reason}"
        usd = price.unit_price(billable.meter, 0)
        if usd is None:
            return f"{billable.meter} ({billable.quantity}) has no price for {price.model!r}"
        return UnitPrice(usd, price.price_id)

    def _window(self, request: RequestFacts) -> Decimal | None:
        """The discount of a background window; None, with a gap, where it is not known."""
        window = request.completion_window
        applies = request.background and not request.stream and self._price.tier == "default"
        if window in _WINDOWS_WITHOUT_DISCOUNT or not applies:
            return _ONE
        factor = window_factor(window)
        if factor is None:
            self.gaps.append(f"completion window {window!r} has no known price")
        else:
            self.notes.append(f"completion window {window}: {plain(factor)} of the standard token prices")
        return factor

    def _regional(self, region: str) -> Decimal:
        """The uplift of a regional endpoint. A deployment's own price is what it is, wherever that lies."""
        if not region or self._price.deployment:
            return _ONE
        factor = regional_factor(self._price.model)
        if factor is None:
            self.gaps.append(f"whether region {region!r} makes {self._price.model!r} dearer is not known")
            return _ONE
        if factor != _ONE:
            self.notes.append(f"region {region}: {plain(factor)} of the token prices")
        return factor
