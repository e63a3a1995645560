from daemon.core.room import Room


def test_a_steady_log_fills_each_commit_to_the_last_action():
    """One batch that was too large is enough to know how many records of two actions each fit, commit for commit."""
    room = Room(100)
    assert room.records is None
    assert room.exceeded(2_000, 4_001, 1) == 49
    for _ in range(50):
        assert room.records == 49
        room.fitted(49, 99, 1)


def test_actions_that_every_commit_has_are_not_counted_with_its_records():
    """A checkpoint and a segment stand beside the rows, however many records there are."""
    room = Room(100)
    room.fitted(2_000, 102, 2)
    assert room.records == 1_960


def test_a_rate_that_wavers_makes_few_batches_too_large():
    """A batch too large costs a margin, which grows until few are, and melts afterwards."""
    room = Room(100)
    room.exceeded(2_000, 4_001, 1)
    rates = [1.9, 2.0, 2.1, 1.95, 2.05, 2.15, 1.85]
    too_large = 0
    for index in range(700):
        records = room.records
        assert records is not None
        rate = rates[index * 3 % 7]
        while (actions := 1 + round(records * rate)) > 100:
            records = room.exceeded(records, actions, 1)
            too_large += 1
        assert records >= 30
        room.fitted(records, actions, 1)
    assert too_large < 100
    for _ in range(200):
        room.fitted(49, 99, 1)
    assert room.records == 49


def test_there_is_always_a_smaller_batch_to_try_down_to_one_record():
    """Records of more actions than a commit holds come down to one by one."""
    room = Room(100)
    assert room.exceeded(10, 3_000, 1) == 1
    assert room.exceeded(1, 300, 1) == 1
    assert room.records == 1


def test_without_a_limit_there_is_no_estimate():
    """A store that counts no actions takes batches as they come."""
    room = Room(None)
    room.fitted(2_000, 4_001, 1)
    assert room.records is None
