"""Rewrite `exchange_rates.csv` from the European Central Bank's reference rates (`make rates`).

The rates come with the package currencyconverter. The row of a month holds, for each currency, the
US dollars that one unit bought at the last rate published before that month began, so that a
transaction never sees a rate of its own future. An empty cell: no rate was published in the 40
days before (the currency no longer exists, or its rate is suspended).
"""

from __future__ import annotations

import csv
from bisect import bisect_left
from datetime import date, timedelta

from currency_converter import CurrencyConverter

from fraud.features.currency import BASE_CURRENCY, EXCHANGE_RATE_FILE

_FIRST_MONTH = date(2015, 1, 1)
_OLDEST = timedelta(days=40)


def main() -> None:
    """Rewrite the table, up to the month after the last published rate."""
    # The package keeps, per currency, the units that one euro bought on each day.
    converter = CurrencyConverter()
    currencies = sorted(converter.currencies - {BASE_CURRENCY})
    days = {
        code: sorted(day for day, rate in table.items() if rate)
        for code, table in converter._rates.items()
    }
    last = max(converter.bounds[BASE_CURRENCY])
    months = []
    month = _FIRST_MONTH
    while month <= last + timedelta(days=31):
        months.append(month)
        month = (month + timedelta(days=31)).replace(day=1)

    def per_euro(code: str, before: date) -> float | None:
        if code == "EUR":
            return 1.0
        at = bisect_left(days[code], before) - 1
        if at < 0 or before - days[code][at] > _OLDEST:
            return None
        return float(converter._rates[code][days[code][at]])

    known = [code for code in currencies if any(per_euro(code, month) for month in months)]
    with EXCHANGE_RATE_FILE.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["month", *known])
        for month in months:
            dollars = per_euro(BASE_CURRENCY, month)
            cells = []
            for code in known:
                units = per_euro(code, month)
                cells.append(f"{dollars / units:.6g}" if dollars and units else "")
            writer.writerow([f"{month:%Y-%m}", *cells])


if __name__ == "__main__":
    main()
