"""Money, as pure vocabulary: usage becomes quantities, quantities and prices become a charge.

Start at `answer.charge_answer`; it leads to `usage`, `tools`, `request`, `book` and `cost`. Nothing here knows a
clock, a socket or the database. Two modules read data that others ship, each on its own: `seed` (the first price list)
and `tokens` (the tokenizer behind `estimate`).
"""
