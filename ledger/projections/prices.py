"""Projection `prices`: every published price. Of one price the highest revision wins.

A call is priced from memory by `ledger.money.book`; this table is where a process loads its book from.
"""

from ledger.projections.definition import Projection, events_where

#: That they belong to no call lets a rebuild find them by an index among millions of others.
EVENTS = events_where("call_id IS NULL AND type = 'price.published'")

FOLD = f"""
INSERT INTO @target@.prices AS p (price_id, model, tier, valid_from, valid_to, source, facts, revision, batch)
SELECT DISTINCT ON (price->>'price_id')
    price->>'price_id', price->>'model', coalesce(price->>'tier', ''), (price->>'valid_from')::timestamptz,
    (price->>'valid_to')::timestamptz, coalesce(price->>'source', ''), price, revision, $4
FROM (
    SELECT facts->'price' AS price, (facts->>'revision')::bigint AS revision
    FROM ({EVENTS}) AS events
) AS changes
ORDER BY price->>'price_id', revision DESC
ON CONFLICT (price_id) DO UPDATE SET
    model = excluded.model, tier = excluded.tier, valid_from = excluded.valid_from, valid_to = excluded.valid_to,
    source = excluded.source, facts = excluded.facts, revision = excluded.revision, batch = excluded.batch
WHERE p.revision < excluded.revision
"""  # noqa: S608 the only insertion is a constant of this package

PRICES = Projection(name="prices", version=1, tables=("prices",), statements=(FOLD,), numbered=True)
