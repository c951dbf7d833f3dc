import numpy as np

from bitat_tf.convert.fold.linear import LinearSystem


def side(*values):
    return np.array(values, float)


def test_solves_what_is_consistent_and_refuses_what_is_not():
    system = LinearSystem()
    none = frozenset()
    assert system.add({"a": 1, "b": 1}, side(3, 5), none)
    assert system.add({"a": 1, "b": -1}, side(1, 1), none)
    assert system.add({"a": 2}, side(4, 6), none)  # follows from the two
    assert not system.add({"b": 1}, side(1, 2.5), none)
    solution = system.solution()
    np.testing.assert_allclose(solution["a"], [2, 3])
    np.testing.assert_allclose(solution["b"], [1, 2])


def test_random_systems_against_numpy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.integers(-1, 2, (6, 4))
        system, kept, sides = LinearSystem(), [], []
        for row in rows:
            value = rng.normal(size=2)
            independent = np.linalg.matrix_rank(np.array([*kept, row])) > len(kept)
            assert system.add(dict(enumerate(row.tolist())), value, frozenset()) == independent
            if independent:
                kept.append(row)
                sides.append(value)
        found = system.solution()
        solution = np.array([found.get(i, np.zeros(2)) for i in range(4)])
        np.testing.assert_allclose(np.array(kept) @ solution, np.array(sides), atol=1e-9)


def test_unknowns_to_be_spared_are_solved_for_last():
    system = LinearSystem()
    assert system.add({"last": 1, "first": 1}, side(2), frozenset({"last"}))
    assert system.solution().keys() == {"first"}


def test_a_copy_is_independent():
    system = LinearSystem()
    system.add({"a": 1, "b": 1}, side(1), frozenset())
    copy = system.copy()
    copy.add({"a": 1}, side(7), frozenset())
    assert system.add({"a": 1}, side(0), frozenset())
    np.testing.assert_allclose(copy.solution()["b"], [-6])
