import math

import numpy as np
import pytest
from scipy import stats

from raymnist import search_space
from raymnist.errors import InputError
from raymnist.search_space import Domain


def draws(domain, count=4000):
    rng = np.random.default_rng(0)
    return [domain.sample(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("domain", "distribution"),
    [
        (Domain("uniform", (2, 5)), stats.uniform(2, 3)),
        (Domain("loguniform", (1e-4, 1e-1)), stats.loguniform(1e-4, 1e-1)),
    ],
)
def test_continuous_domains_follow_scipys_distributions(domain, distribution):
    assert stats.kstest(draws(domain), distribution.cdf).pvalue > 0.01


def test_randint_draws_every_whole_number_below_its_upper_bound():
    assert set(draws(Domain("randint", (2, 6)))) == {2, 3, 4, 5}


def test_choice_draws_every_value_about_equally_often():
    values = draws(Domain("choice", ("spatial", 16, 64)))
    assert stats.chisquare([values.count(value) for value in ("spatial", 16, 64)]).pvalue > 0.01


def test_quniform_stays_on_its_steps_and_within_its_bounds():
    assert set(draws(Domain("quniform", (10, 50, 16)))) == {16, 32, 48}
    assert all(math.isclose(value * 10, round(value * 10)) for value in draws(Domain("quniform", (0.05, 0.95, 0.1))))
    tenths = Domain("quniform", (0.1, 0.7, 0.1))  # 0.7 / 0.1 is 6.999... in binary
    assert set(draws(tenths)) == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
    assert tenths.extremes() == (0.1, 0.7)


def test_whole_steps_give_whole_numbers():
    assert {type(value) for value in draws(Domain("quniform", (8, 64, 8)))} == {int}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ({"loguniform": [1e-3, 1e-4]}, "lower bound first"),
        ({"uniform": [1, 1]}, "lower bound first"),
        ({"loguniform": [0, 1]}, "bounds above 0"),
        ({"uniform": [1]}, "a list of 2 numbers"),
        ({"uniform": 3}, "a list of 2 numbers"),
        ({"uniform": ["a", "b"]}, "a list of 2 numbers"),
        ({"uniform": [True, 5]}, "a list of 2 numbers"),
        ({"uniform": [0, math.inf]}, "a list of 2 numbers"),
        ({"randint": [1, 2.5]}, "2 whole numbers"),
        ({"quniform": [0, 1, 0]}, "a step above 0"),
        ({"quniform": [0, 1, 2]}, "a step above 0"),
        ({"choice": []}, "a list of values"),
        ({"choice": [1, 1]}, "values that differ"),
    ],
)
def test_a_wrong_domain_names_its_key_and_what_it_expects(text, problem):
    with pytest.raises(InputError, match=f"^train.x: .*expects .*{problem}"):
        search_space.parse(text, "train.x")


def test_find_and_fill_go_together():
    settings = {"model": {"name": "conv_gan", "latent_dim": {"choice": [1, 2]}}, "train": {"epochs": 3}}
    assert search_space.find(settings) == {"model.latent_dim": Domain("choice", (1, 2))}
    filled = search_space.fill(settings, {"model.latent_dim": 2})
    assert filled == {"model": {"name": "conv_gan", "latent_dim": 2}, "train": {"epochs": 3}}


def test_corners_show_every_extreme_of_every_domain():
    domains = {"a": Domain("choice", (1, 2, 3)), "b": Domain("randint", (5, 9))}
    corners = list(search_space.corners(domains))
    assert {corner["a"] for corner in corners} == {1, 2, 3}
    assert {corner["b"] for corner in corners} == {5, 8}


def test_a_grid_has_every_combination_once():
    domains = {"a": Domain("grid", (1, 2)), "b": Domain("choice", ("x", "y"))}
    assert [tuple(point.values()) for point in search_space.grid(domains)] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_draws_do_not_depend_on_the_order_in_the_file():
    a, b = Domain("uniform", (0, 1)), Domain("uniform", (5, 6))
    forwards = search_space.draw({"a": a, "b": b}, np.random.default_rng(1))
    backwards = search_space.draw({"b": b, "a": a}, np.random.default_rng(1))
    assert forwards == backwards
