"""Projection `line_items`: sums by day of each model's line items, for reports of costs in OpenAI's shape.

The items of a cost add up to what it billed and estimated together, and a correction's items are differences, so the
sum over all rows is the sum of `spend`. What has no item because nobody knows its amount is counted under the meter
`unknown`; an amount that items do not explain (the proxy records none) is under `other`. End users, tags and hours are
in `spend.py`: with them there would be as many rows as costs.
"""

from ledger.projections.definition import Projection, events_where

COSTS = events_where("type ^@ 'cost.'")

#: Days are cut as text: the facts' times are RFC 3339 in UTC. A cost or an item that cannot be read raises, with its
#: place, instead of counting as nothing. What is the same for all items of a cost is taken out of it once.
FOLD = f"""
WITH items AS MATERIALIZED (
    SELECT left(costs.received_at, 10)::date AS day, org, team, user_id, key_id, model, part.meter,
        sum(part.quantity)::bigint AS quantity, sum(part.amount_usd) AS amount_usd, sum(part.unknown) AS unknown_costs
    FROM (
        SELECT dims->>'received_at' AS received_at, dims->>'org' AS org, dims->>'team' AS team,
            dims->>'user' AS user_id, dims->>'key' AS key_id, dims->>'model' AS model, facts->'items' AS items,
            facts->>'unknown' AS unknown,
            (facts->>'billed_usd')::numeric(24,12) + (facts->>'estimated_usd')::numeric(24,12) AS usd,
            ledger.readable_cost(type, schema, facts) AND jsonb_typeof(facts->'items') = 'array' AS is_readable,
            journal_id, seq, type
        FROM (SELECT facts->'dims' AS dims, * FROM ({COSTS}) AS events OFFSET 0) AS events
        OFFSET 0
    ) AS costs
    CROSS JOIN LATERAL (
        SELECT meter, quantity,
            CASE WHEN num_nulls(meter, quantity, amount_usd) = 0 THEN amount_usd
                 ELSE ledger.unreadable(type, journal_id, seq) END AS amount_usd,
            0 AS unknown
        FROM jsonb_to_recordset(items) AS item (meter text, quantity bigint, amount_usd numeric)
        UNION ALL
        SELECT 'other', 0, rest.amount_usd, 0 FROM (
            SELECT usd - coalesce((
                SELECT sum(amount_usd) FROM jsonb_to_recordset(items) AS item (amount_usd numeric)
            ), 0) AS amount_usd
        ) AS rest WHERE rest.amount_usd <> 0
        UNION ALL
        SELECT 'unknown', 0, 0, unknown::bigint WHERE unknown <> '0'
        UNION ALL
        SELECT '', 0, ledger.unreadable(type, journal_id, seq), 0 WHERE is_readable IS NOT TRUE
    ) AS part
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), named AS (
    SELECT true AS keyed, day, ledger.bounded(org) AS org, ledger.bounded(team) AS team,
        ledger.bounded(user_id) AS user_id, ledger.bounded(key_id) AS key_id, ledger.bounded(model) AS model,
        ledger.bounded(meter) AS meter, quantity, amount_usd, unknown_costs
    FROM items
    UNION ALL
    SELECT false, day, '', '', '', '', ledger.bounded(model), ledger.bounded(meter), quantity, amount_usd, unknown_costs
    FROM items
), summed AS (
    SELECT keyed, day, org, team, user_id, key_id, model, meter, sum(quantity) AS quantity,
        sum(amount_usd) AS amount_usd, sum(unknown_costs) AS unknown_costs
    FROM named GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
)
INSERT INTO @target@.line_items AS i (
    keyed, day, dims_sha256, org, team, user_id, key_id, model, meter, quantity, amount_usd, unknown_costs
)
SELECT keyed, day,
    sha256(convert_to(jsonb_build_array(org, team, user_id, key_id, model, meter)::text, 'UTF8')) AS dims_sha256,
    org, team, user_id, key_id, model, meter, quantity, amount_usd, unknown_costs
FROM summed ORDER BY keyed, day, dims_sha256
ON CONFLICT (keyed, day, dims_sha256) DO UPDATE SET
    quantity = i.quantity + excluded.quantity, amount_usd = i.amount_usd + excluded.amount_usd,
    unknown_costs = i.unknown_costs + excluded.unknown_costs
"""  # noqa: S608 the only insertion is a constant of this package

LINE_ITEMS = Projection(name="line_items", version=1, tables=("line_items",), statements=(FOLD,), numbered=False)
