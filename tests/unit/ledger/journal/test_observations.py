"""Who is presumed dead, by an observer's own clock."""

from uuid import UUID

from ledger.journal.watch import Observations

A, B = UUID(int=1), UUID(int=2)


def look(observations: Observations, begin_s: float, end_s: float, counter: int) -> list[UUID]:
    """Look once a second at a counter that does not move; return who was dead at the end."""
    dead: list[UUID] = []
    now_s = begin_s
    while now_s <= end_s:
        dead = observations.note({A: counter}, now_s)
        now_s += 1
    return dead


def test_note_of_a_counter_unmoved_for_the_lease_presumes_death() -> None:
    observations = Observations(15)
    assert look(observations, 100, 114, 7) == []
    assert look(observations, 115, 115, 7) == [A]


def test_note_of_a_counter_that_moved_begins_anew() -> None:
    observations = Observations(15)
    look(observations, 100, 114, 7)
    assert look(observations, 115, 129, 8) == []
    assert look(observations, 130, 130, 8) == [A]


def test_note_of_a_counter_that_fell_is_a_sign_of_life() -> None:
    observations = Observations(15)
    look(observations, 100, 114, 7)
    assert look(observations, 115, 129, 6) == []


def test_note_at_the_first_look_presumes_nobody_dead_however_old() -> None:
    assert Observations(15).note({A: 0, B: 10**9}, 10**9) == []


def test_note_after_an_outage_begins_anew() -> None:
    observations = Observations(15)
    look(observations, 100, 110, 7)
    observations.forget()
    assert look(observations, 111, 125, 7) == []
    assert look(observations, 126, 126, 7) == [A]


def test_note_after_the_observer_stood_still_begins_anew() -> None:
    observations = Observations(15)
    look(observations, 100, 105, 7)
    assert observations.note({A: 7}, 125) == []
    assert look(observations, 126, 139, 7) == []
    assert look(observations, 140, 140, 7) == [A]


def test_note_of_a_journal_that_was_away_for_a_look_begins_anew() -> None:
    observations = Observations(15)
    look(observations, 100, 110, 7)
    observations.note({}, 111)
    assert look(observations, 112, 126, 7) == []


def test_note_of_one_dead_and_one_living_presumes_only_the_dead() -> None:
    observations = Observations(5)
    dead = [observations.note({A: 1, B: second}, float(second)) for second in range(10)]
    assert dead[-1] == [A]
